//! The Python client and its pytest plugin, as `pip` installs them from `clients/python`: their own tests, against the
//! real daemon in namespaces. Needs root, and what `cargo xtask setup python` installs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use injector_lab::{needs, skip};
use tempfile::TempDir;

/// The package, installed once for the tests that run at the same time or after one another; gone with the last of them.
struct Installed {
    python: PathBuf,
    source: PathBuf,
    library: Arc<TempDir>,
    folder: TempDir,
}

impl Installed {
    /// Installs it; `None` if this machine can't run the tests.
    fn new(test: &str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let python = root.join("target/python/bin/python");
        if !root.join("target/python/installed").exists() {
            skip(test, "needs pytest in target/python: cargo xtask setup python");
            return None;
        }
        let source = root.join("clients/python");
        let library = Self::shared(&python, &source);
        Some(Self { python, source, library, folder: tempfile::tempdir().unwrap() })
    }

    fn shared(python: &Path, source: &Path) -> Arc<TempDir> {
        static SHARED: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
        // A test that failed at it has left nothing there.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let library = Arc::new(Self::install(python, source));
            *shared = Arc::downgrade(&library);
            library
        })
    }

    fn install(python: &Path, source: &Path) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        // By the words of the page; into a folder of its own, and with what is there already.
        let page = std::fs::read_to_string(source.join("../../docs/clients/python.md")).unwrap();
        let words = page.split("```sh suite\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut pip = Command::new("sh");
        pip.args(["-euc", words]).current_dir(source.join("../.."));
        let programs = python.parent().unwrap().display();
        pip.env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
        pip.env("PIP_TARGET", folder.path());
        for option in ["QUIET", "DISABLE_PIP_VERSION_CHECK", "NO_CACHE_DIR", "NO_DEPS"] {
            pip.env(format!("PIP_{option}"), "1");
        }
        // Here pip takes "false" for the option's "no".
        pip.env("PIP_NO_BUILD_ISOLATION", "false").env("PIP_ROOT_USER_ACTION", "ignore");
        assert_success(&pip.output().unwrap());
        folder
    }

    fn library(&self) -> &Path {
        self.library.path()
    }

    fn python(&self) -> Command {
        let injector = Path::new(env!("CARGO_BIN_EXE_injector"));
        let mut command = Command::new(&self.python);
        command
            .current_dir(&self.source)
            .env("PYTHONPATH", self.library())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("INJECTOR_BINARY", injector);
        command.env("INJECTOR_TEST_QUORUM", injector.with_file_name("examples").join("quorum"));
        // `tests/conftest.py` drops the variables of pytest and of the injector itself.
        for name in [
            "PYTEST_ADDOPTS",
            "FORCE_COLOR",
            "CLICOLOR_FORCE",
            "PY_COLORS",
            "MYPY_FORCE_COLOR",
            "MYPYPATH",
            "PYTHONWARNINGS",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs files of tests. None may be skipped: what can't run here must be named.
    fn pytest(&self, files: &[&str]) {
        let mut pytest = self.python();
        pytest.args(["-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", "-rs", "--tb=short"]);
        // The tests drop what a user may have set for programs of their own.
        pytest.envs([("INJECTOR_HOST", "vm"), ("INJECTOR_LOG", "error"), ("CLICOLOR_FORCE", "1")]);
        pytest.envs([
            ("TEST", "false"),
            ("INJECTOR", "false"),
            ("PATIENCE", "0"),
            ("HELD", "0"),
            ("CODE", "3"),
        ]);
        pytest.env("MAKEFLAGS", "-k");
        pytest.arg("--basetemp").arg(self.folder.path().join("tests"));
        let output = pytest.args(files.iter().map(|file| format!("tests/{file}"))).output().unwrap();
        assert_success(&output);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let result = said.lines().last().unwrap();
        assert!(result.contains(" passed") && !result.contains("skipped"), "{said}");
    }
}

fn assert_success(output: &Output) {
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{errors}", output.status);
}

fn run(test: &str, files: &[&str]) {
    if let Some(installed) = Installed::new(test) {
        installed.pytest(files);
    }
}

#[test]
#[needs(root, program = "python3", example = "quorum")]
fn the_python_client_cuts_heals_and_measures() {
    run("the_python_client_cuts_heals_and_measures", &["test_contract.py", "test_client.py"]);
}

#[test]
#[needs(root, program = "python3", example = "quorum")]
fn the_python_client_says_what_is_wrong() {
    run("the_python_client_says_what_is_wrong", &["test_errors.py", "test_ssh.py"]);
}

#[test]
#[needs(root, program = "python3", example = "quorum")]
fn the_python_client_has_an_asyncio_twin_and_a_page() {
    run("the_python_client_has_an_asyncio_twin_and_a_page", &["test_asyncio.py", "test_docs.py"]);
}

#[test]
#[needs(root, program = "python3", example = "quorum", minutes = 1)]
fn suites_of_pytest_heal_what_they_cut() {
    run("suites_of_pytest_heal_what_they_cut", &["test_plugin.py"]);
}

#[test]
#[needs(root, program = "python3", example = "quorum", minutes = 1)]
fn suites_of_pytest_start_a_daemon_of_their_own() {
    run("suites_of_pytest_start_a_daemon_of_their_own", &["test_lab.py"]);
}

/// The suites of `docs/switching.md`.
#[test]
#[needs(root, program = "python3", example = "quorum")]
fn suites_of_other_tools_are_switched_over() {
    run("suites_of_other_tools_are_switched_over", &["test_switching.py"]);
}

/// `examples/`: a suite in shell, a Makefile, a workflow of continuous integration.
#[test]
#[needs(root, program = "python3", example = "quorum")]
fn the_examples_run_as_they_are() {
    run("the_examples_run_as_they_are", &["test_examples.py"]);
}

#[test]
#[needs(program = "python3")]
fn the_python_client_is_typed() {
    let Some(installed) = Installed::new("the_python_client_is_typed") else { return };
    // Both runs read the types of the standard library.
    let mypy = || {
        let mut mypy = installed.python();
        mypy.args(["-m", "mypy", "--cache-dir"]).arg(installed.folder.path().join("types"));
        mypy
    };
    assert_success(&mypy().output().unwrap());
    assert!(installed.library().join("partition_injector/py.typed").exists());
    // A user of it is checked by its types.
    let user = installed.folder.path().join("user.py");
    std::fs::write(
        &user,
        "from partition_injector import Injector\nx: str = Injector().partition(isolate=['n1']).record().hold_ns\n",
    )
    .unwrap();
    let mut mypy = mypy();
    mypy.current_dir(installed.folder.path()).env("MYPYPATH", "");
    let output = mypy.args(["--strict", "--python-executable"]).arg(&installed.python).arg(&user).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // As the Python that it runs on spells it.
    let shown = ["int | None", "Optional[int]"]
        .map(|field| format!("expression has type \"{field}\", variable has type \"str\""));
    assert!(shown.iter().any(|shown| said.contains(shown)), "{said}");
}
