//! Bodies of requests: any bytes are a request or an error, and a request survives being written and read again.
#![no_main]

use injector_core::api::{EnableRequest, MarkRequest, PartitionRequest};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<PartitionRequest>(body) {
        let text = serde_json::to_string(&request).expect("a request is JSON");
        let again: PartitionRequest = serde_json::from_str(&text).expect("what was written is read");
        assert_eq!(again, request);
        // Its shape in words is the same shape.
        let _ = request.shape.to_string();
    }
    let _ = serde_json::from_slice::<EnableRequest>(body);
    let _ = serde_json::from_slice::<MarkRequest>(body);
});
