"""`clew run` up to the moment in which it becomes the program, with click and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clew.cli._launch import BOOTSTRAP, OPTIONS, environment

CLEW = [sys.executable, "-m", "clew.cli"]
PRINT_ENVIRONMENT = (
    "import os; print(*sorted(f'{k}={v}' for k, v in os.environ.items() if k.startswith('CLEW_')), sep='\\n')"
)
WITHOUT_CLICK = (
    "import sys; sys.modules['click'] = None; sys.argv[0] = 'clew'; from clew.cli.__main__ import main; main()"
)


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with only these CLEW_* variables set."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("CLEW_")} | variables
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)


def test_options_become_variables_and_the_bootstrap_comes_first() -> None:
    """What is set stays unless its option is given; the path of the program is kept behind."""
    inherited = {
        "PYTHONPATH": os.pathsep.join(["a", str(BOOTSTRAP), "b"]),
        "CLEW_TAGS": "env=prod",
        "CLEW_SAMPLER": "1/s",
    }
    values = {"service": None, "reporter": "http://c:9411", "logs": True, "sampler": "10%"}
    assert {
        "PYTHONPATH": os.pathsep.join([str(BOOTSTRAP), "a", "b"]),
        "CLEW_TAGS": "env=prod",
        "CLEW_SAMPLER": "10%",
        "CLEW_REPORTER": "http://c:9411",
        "CLEW_LOGS": "1",
        "CLEW_SERVICE": "orders",
    } == environment(values, ["python", "orders.py"], inherited)


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [(None, []), ("", []), (":/x", ["", "/x"]), ("/x:", ["/x", ""]), ("a::b", ["a", "", "b"]), (":", ["", ""])],
)
def test_empty_parts_of_the_path_stay(inherited: str | None, expected: list[str]) -> None:
    """They mean the current directory; nested runs add the bootstrap once."""
    env = {} if inherited is None else {"PYTHONPATH": inherited}
    once = environment({}, ["python", "orders.py"], env)
    assert [str(BOOTSTRAP), *expected] == once["PYTHONPATH"].split(os.pathsep)
    assert once == environment({}, ["python", "orders.py"], once)


def test_a_given_name_wins_over_the_variable_and_that_over_the_programs() -> None:
    """--service, then CLEW_SERVICE, then the program's own name."""
    command = ["uvicorn", "gateway:app"]
    assert ["shop", "shop", "gateway"] == [
        environment({"service": "shop"}, command, {"CLEW_SERVICE": "other"})["CLEW_SERVICE"],
        environment({}, command, {"CLEW_SERVICE": "shop"})["CLEW_SERVICE"],
        environment({}, command, {})["CLEW_SERVICE"],
    ]


def test_a_starter_of_many_programs_gives_its_name_to_none() -> None:
    """Each program of a Procfile names itself."""
    assert "CLEW_SERVICE" not in environment({}, ["honcho", "start"], {})


@pytest.mark.parametrize("clew", [CLEW, [sys.executable, "-c", WITHOUT_CLICK]], ids=["click", "bare"])
class TestBothParsers:
    """The same options read by click and, where only the client is installed, by argparse."""

    def test_the_program_runs_with_its_own_arguments_and_exit_code(self, clew: list[str]) -> None:
        """Everything behind the options is the program's; its exit code is the command's."""
        script = "import sys; print(sys.argv[1:]); sys.exit(7)"
        done = run(*clew, "run", "--service", "s", "--", sys.executable, "-c", script, "--logs", "-x", "--", "y")
        assert (7, "['--logs', '-x', '--', 'y']\n") == (done.returncode, done.stdout)

    def test_options_reach_the_program(self, clew: list[str]) -> None:
        """As CLEW_* variables."""
        given = ["--service", "s", "--reporter", "none", "--logs", "--tags", "a=b"]
        done = run(*clew, "run", *given, "--", sys.executable, "-c", PRINT_ENVIRONMENT, CLEW_TOKEN="t")
        expected = "CLEW_LOGS=1\nCLEW_REPORTER=none\nCLEW_SERVICE=s\nCLEW_TAGS=a=b\nCLEW_TOKEN=t\n"
        assert (0, expected) == (done.returncode, done.stdout)

    def test_help_names_every_option_with_its_variable(self, clew: list[str]) -> None:
        """Nobody has to guess."""
        done = run(*clew, "run", "--help", COLUMNS="200")
        assert 0 == done.returncode
        assert [] == [o.name for o in OPTIONS if f"--{o.name}" not in done.stdout or o.variable not in done.stdout]

    def test_an_unknown_command_is_one_sentence_and_code_1(self, clew: list[str]) -> None:
        """No traceback."""
        done = run(*clew, "run", "--", "no-such-command-here")
        assert 1 == done.returncode
        assert "clew: There is no command 'no-such-command-here'." in done.stderr
        assert 1 == done.stderr.count("\n")

    @pytest.mark.parametrize("arguments", [[], ["--bogus", "--", "python"]])
    def test_wrong_usage_is_code_2(self, clew: list[str], arguments: list[str]) -> None:
        """Without a command, or with an option that does not exist."""
        assert 2 == run(*clew, "run", *arguments).returncode

    def test_version_is_told(self, clew: list[str]) -> None:
        """`clew --version`."""
        assert "clew 0.1.0\n" == run(*clew, "--version").stdout


def test_the_process_id_stays_the_same() -> None:
    """`clew run` becomes the program: supervisors signal the right process."""
    with subprocess.Popen(
        [*CLEW, "run", "--reporter", "none", "--", sys.executable, "-c", "import os; print(os.getpid())"],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        out, _ = child.communicate(timeout=60)
    assert child.pid == int(out)


def test_a_script_that_is_not_executable_is_run_with_this_python(tmp_path: Path) -> None:
    """`clew run app.py` says what is meant."""
    script = tmp_path / "app.py"
    script.write_text("print('hello')")
    done = run(*CLEW, "run", "--reporter", "none", "--", str(script))
    assert (0, "hello\n") == (done.returncode, done.stdout)


def test_a_bare_client_says_what_to_install_for_the_rest() -> None:
    """Without click and rich there is `clew run`; other commands name the extra."""
    done = run(sys.executable, "-c", WITHOUT_CLICK, "ls")
    assert 2 == done.returncode
    assert "pip install 'clew[collector]'" in done.stderr
