//! The suites of docs/clients/rust.md, as they are written there.

mod blocking {
    use std::time::Duration;

    use injector_client::test::{Cut, GuardError, Partition};

    #[test]
    fn the_cluster_recovers_from_an_isolated_node() -> Result<(), GuardError> {
        let partition = Partition::cut(Cut::isolate(["n1"]))?;
        std::thread::sleep(Duration::from_secs(1)); // the test's own work: the majority must serve
        partition.heal()?; // fails unless the partition was in force until now
        let record = partition.recovers(Duration::from_secs(20))?;
        assert_eq!(record.name, partition.name());
        Ok(())
    }
}

mod asynchronous {
    use injector_client::test::{AsyncPartition, Cut, GuardError};

    #[tokio::test]
    async fn a_port_is_cut_and_healed_at_the_end_of_the_scope() -> Result<(), GuardError> {
        let partition = AsyncPartition::cut(Cut::between([["n1"], ["n2"]]).scope("tcp/5122")).await?;
        assert!(partition.applied().links.as_ref().is_some_and(|links| links.len() == 2));
        Ok(())
    }
}
