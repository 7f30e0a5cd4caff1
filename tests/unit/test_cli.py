"""The command line: every verb, exit codes, one line per error, and what `--help` may import."""

import json
import os
import re
import subprocess
import sys

import pytest

from offsim import cli
from offsim.engine.simulate import DeadlockError
from offsim.program.load import load_scenario
from offsim.results.layout import seconds
from offsim.results.metric_list import METRIC_GROUPS
from offsim.scenario import catalogue
from tests.malformed.mutations import good, toml

from .test_sweep import GRID

SCENARIOS = catalogue.names("scenarios")
HEAVY = ("numpy", "scipy", "pandas", "simpy", "networkx")
VERBS = ("run", "program", "models", "nodes", "policies", "scenarios", "metrics", "show", "sweep", "best", "export")
SMALL = """
schema = 2
name = "small"
model = "wan2.1-t2v-1.3b"
node = "h100-pcie"
policy = { name = "sglang-layerwise", version = "v2" }
workload = { gpus = GPUS, tokens = 4096, steps = 6 }
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace("GPUS", "4"))
    return str(path)


def run(capsys, *arguments):
    """Exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def process(*arguments, **options):
    command = [sys.executable, "-m", "offsim", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["sweep", "--help"], ["best", "--help"], ["run", "--nonsense"]]
)
def test_help_and_wrong_flags_answer_without_heavy_imports(arguments):
    script = (
        "import sys; from offsim import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        f"except SystemExit: print('loaded', [name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.endswith("loaded []\n")


@pytest.mark.parametrize("words", [["run"], ["run", "--json"], ["program"], ["best", "--quiet"], ["sweep", "--quiet"]])
def test_no_verb_that_predicts_imports_pandas(small, tmp_path, words):
    (tmp_path / "grid.toml").write_text(GRID)
    named = str(tmp_path / "grid.toml") if words[0] == "sweep" else small
    script = (
        "import sys; from offsim import cli; code = cli.exit_code(sys.argv[1:]); print('pandas' in sys.modules, code)"
    )
    command = [sys.executable, "-c", script, words[0], named, *words[1:]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path)
    assert result.stdout.endswith("False 0\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_examples(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert 2 <= out.count(f"\n  offsim {verb}") + out.count("\n  offsim ") <= 6


def test_no_verb_prints_the_list_of_verbs(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert all(verb in out for verb in VERBS)


def test_version_is_one_line(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.count("\n") == 1 and out.strip()


def test_run_as_json_prints_one_object_and_nothing_else(small):
    result = process("run", small, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["schema_version"] == 2
    assert found["total_s"] == pytest.approx(sum(step["step_s"] for step in found["steps"]))


def test_run_prints_the_total_and_collapses_equal_steps(capsys, small):
    code, out, _ = run(capsys, "run", small)
    _, as_json, _ = run(capsys, "run", small, "--json")
    assert code == 0
    assert seconds(json.loads(as_json)["total_s"]) in out
    assert "1-5 " in out or "0-5 " in out
    assert "Memory [GiB]" in out and "Where the time went" in out and "guess" in out


def test_run_shows_what_lies_between_where_the_times_are_an_interval(capsys, small):
    _, as_json, _ = run(capsys, "run", small, "--json")
    low, high = (json.loads(as_json)[name] for name in ("total_low_s", "total_high_s"))
    _, out, _ = run(capsys, "run", small)
    assert (seconds(low).split()[0] in out) and (seconds(high).split()[0] in out)
    assert ("[" in out.partition("lower bound")[0]) == (seconds(low) != seconds(high))


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("arguments", [["run", "SMALL"], ["show", "h100-pcie"], ["show", "flux.1-dev"], ["nodes"]])
def test_no_line_is_wider_than_the_terminal(capsys, monkeypatch, small, width, arguments):
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run(capsys, *(small if argument == "SMALL" else argument for argument in arguments))
    assert code == 0
    assert max(map(len, out.splitlines())) <= width


def test_piped_output_has_no_colour_codes_and_fits_100_columns(small):
    result = process("run", small)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_run_says_what_is_padded_and_nothing_where_nothing_is(capsys, tmp_path):
    """21 latent frames of 3,600 tokens on 4 GPUs; 4,097 tokens on 4; 4,096 on 4."""
    frames = 'extends = "wan2.2-4xh100-pcie-layerwise"\nworkload = { steps = 2 }\n'
    tokens = SMALL.replace("GPUS", "4")
    for text, words in (
        (frames, "21 latent frames to 24 (4 GPUs share them equally): 86,400 tokens, not 75,600"),
        (tokens.replace("4096", "4097"), "4,097 tokens to 4,100 (4 GPUs share them equally)"),
        (tokens, ""),
    ):
        (tmp_path / "asked.toml").write_text(text)
        code, out, _ = run(capsys, "run", str(tmp_path / "asked.toml"))
        assert code == 0
        assert (f"padded {words}" in " ".join(out.split())) if words else ("padded" not in out)


def test_run_says_what_was_left_out_of_the_simulation_only_where_something_was(capsys, tmp_path):
    path = tmp_path / "asked.toml"
    path.write_text(SMALL.replace("GPUS", "1") + "simulation = { steady_state = false, block_period = false }\n")
    _, out, _ = run(capsys, "run", str(path))
    assert "shortcuts none: every rank, step and block was simulated" in " ".join(out.split())
    path.write_text(SMALL.replace("GPUS", "4") + "simulation = { steady_state = false, block_period = false }\n")
    _, out, _ = run(capsys, "run", str(path))
    assert "shortcuts 1 of 4 ranks simulated" in [" ".join(line.split()) for line in out.splitlines()]


def test_run_says_where_and_by_how_much_memory_runs_out(capsys, tmp_path):
    path = tmp_path / "large.toml"
    path.write_text(
        'extends = "flux.1-dev-rtx4090-layerwise"\nschema = 1\npolicy = "resident"\n[workload]\nsteps = 2\n'
    )
    code, out, _ = run(capsys, "run", str(path))
    assert code == 0
    assert "NO: out of device memory" in out and "short of" in out


def test_run_writes_a_trace(capsys, small, tmp_path):
    code, out, _ = run(capsys, "run", small, "--trace", str(tmp_path / "trace.json"))
    assert code == 0
    assert "trace.json" in out
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_program_prints_the_chosen_steps(capsys, small):
    code, out, _ = run(capsys, "program", small, "--steps", "0,2-3")
    assert code == 0
    assert "step 0" in out and "step 2" in out and "load" not in out.splitlines()


def test_program_check_finds_no_problems(capsys, small):
    code, out, _ = run(capsys, "program", small, "--check")
    assert code == 0
    assert out.endswith("check: 0 problems\n")


@pytest.mark.parametrize("kind", ["models", "nodes", "scenarios"])
def test_lists_name_every_entry(capsys, kind):
    code, out, _ = run(capsys, kind)
    assert code == 0
    assert all(f"\n{name} " in out for name in catalogue.names(kind))


def test_policies_are_listed_with_their_versions(capsys):
    code, out, _ = run(capsys, "policies")
    assert code == 0
    assert "v0, v1, v2, v3" in out and "fsdp" in out and "resident_layers" in out


@pytest.mark.parametrize("kind", ["models", "nodes", "scenarios"])
def test_every_entry_can_be_shown(capsys, kind):
    for name in catalogue.names(kind):
        code, out, err = run(capsys, "show", name)
        assert (code, err) == (0, ""), name
        assert name in out


SHOWN_FILES = {
    "scenario": (SMALL.replace("GPUS", "4"), ["scenario small", "tokens 4,096", "policy sglang-layerwise"]),
    "node": (
        'extends = "h100-pcie"\nwiring.pcie.h2d_GBps = 20\n',
        ["node h100-pcie", "wiring.pcie.h2d_GBps 20 GB/s given"],
    ),
    "model": ('extends = "flux.1-dev"\nsteps = 7\n', ["model flux.1-dev", "steps 7"]),
    "grid": (GRID, ["grid tiny", "combinations 6", "gpus workload.gpus 1, 2, 3"]),
    "nothing but a node": ('schema = 1\nextends = "node.toml"\n', ["wiring.pcie.h2d_GBps 20 GB/s given"]),
    "nothing but a model": ('extends = "flux.1-dev"\n', ["model flux.1-dev"]),
    "nothing but a scenario": ('extends = "scenario.toml"\n', ["model wan2.1-t2v-1.3b", "tokens 4,096"]),
}
"""Files by what they are of, and lines that are shown of each."""


@pytest.mark.parametrize("name", SHOWN_FILES)
def test_a_file_is_shown_by_what_it_says(capsys, tmp_path, name):
    for other, (text, _) in SHOWN_FILES.items():
        (tmp_path / f"{other}.toml").write_text(text)
    code, out, err = run(capsys, "show", str(tmp_path / f"{name}.toml"))
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [line for line in SHOWN_FILES[name][1] if line not in lines] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('extends = "nope.toml"', "extends='nope.toml': no such file"),
        ("gpu = 1", "gpu=1: expected a table"),
        ("a", "TOML"),
    ],
)
def test_a_file_that_cannot_be_shown_says_why(capsys, tmp_path, text, wrong):
    (tmp_path / "wrong.toml").write_text(text)
    code, out, err = run(capsys, "show", str(tmp_path / "wrong.toml"))
    assert (code, out) == (2, "") and wrong in err


def test_times_are_shown_with_the_keys_that_files_have(capsys):
    for words in (("policies",), ("show", "accelerate-sequential")):
        _, out, _ = run(capsys, *words)
        assert "hook_cost_us" in out and "empty_cache_us" in out
    _, out, _ = run(capsys, "show", "wan2.2-8xh100-nvlink-layerwise")
    assert [line.split() for line in out.splitlines() if line.startswith("compile_")] == [["compile_us", "0"]]


def test_values_of_a_node_are_named_by_the_keys_that_files_have(capsys):
    """What is shown can be written into a file: `h2d_GBps`, not `h2d`; a time in the unit of the number beside it."""
    _, out, _ = run(capsys, "show", "h200-x1")
    for line in (
        "wiring.pcie.h2d_GBps 55.2 GB/s measured",
        "gpu.clock.window_ms 30.8 ms published",
        "wiring.pcie.duplex 1.596",
    ):
        assert any(" ".join(shown.split()).startswith(line) for shown in out.splitlines()), line
    _, out, _ = run(capsys, "run", "wan2.2-4xh100-pcie-layerwise")
    [weakest] = [line for line in out.splitlines() if line.startswith("weakest (guess)")]
    assert weakest.split()[2] == "gpu.context_GiB,"


def test_a_node_is_shown_with_units_origin_and_source(capsys):
    _, out, _ = run(capsys, "show", "h100-pcie")
    assert "55.2 GB/s  derived" in out and "11 us  published" in out and "TFLOP/s: " in out
    _, out, _ = run(capsys, "show", "h100-sxm-x2-nvlink")
    assert "700 W  published" in out and "134.8 pJ  published" in out


def test_metrics_are_listed_with_unit_and_meaning_and_each_can_be_shown(capsys):
    code, out, _ = run(capsys, "metrics")
    assert code == 0
    for line in ("total_s s Denoising: the sum of all steps", "fits yes or no Whether device and host memory suffice"):
        assert line in [" ".join(found.split()) for found in out.splitlines()]
    for name in (*metrics_of_everything(), "status", "total_with_error_low_s"):
        assert f"\n{name} " in out
        code, shown, _ = run(capsys, "show", name)
        assert code == 0 and shown.startswith("metric ") and name in shown


def metrics_of_everything():
    return [metric.name for metrics in METRIC_GROUPS.values() for metric in metrics]


def test_a_policy_is_shown_with_the_meaning_of_its_parameters(capsys):
    _, out, _ = run(capsys, "show", "sglang-layerwise")
    assert "v0: PR 15511" in out and "true, false" in out


BAD = {
    "no scenario": ["run"],
    "unknown name": ["run", "nope"],
    "missing file": ["run", "nope.toml"],
    "a directory": ["run", "DIRECTORY"],
    "unknown flag": ["run", "SMALL", "--jsn"],
    "too many words": ["run", "SMALL", "more"],
    "unknown verb": ["rn", "SMALL"],
    "trace without file": ["run", "SMALL", "--trace"],
    "trace into no directory": ["run", "SMALL", "--trace", "/no/such/place.json"],
    "trace onto a directory": ["run", "SMALL", "--trace", "DIRECTORY"],
    "steps that are no numbers": ["program", "SMALL", "--steps", "a"],
    "steps that do not exist": ["program", "SMALL", "--steps", "0-6"],
    "steps backwards": ["program", "SMALL", "--steps", "3-1"],
    "nothing to show": ["show", "nope"],
    "empty name": ["show", ""],
    "more GPUs than there are": ["run", "TOO-MANY"],
    "missing grid": ["sweep", "nope.toml"],
    "workers that are no integer": ["sweep", "--workers=1.5"],
    "workers that are no number": ["sweep", "--workers=0x10"],
    "too many workers": ["sweep", "--workers", "1" * 5000],
    "endless memory": ["best", "SMALL", "--vram=1e400"],
    "a time that is no number": ["calibrate", "--dry-run", "--limit-s=nan"],
    "a time before now": ["calibrate", "--dry-run", "--limit-s=-1"],
    "steps of thousands of digits": ["program", "SMALL", "--steps", "1" * 5000],
    "a billion steps": ["program", "SMALL", "--steps", "0-999999999"],
    "no step": ["program", "SMALL", "--steps", ""],
    "a long name": ["show", "x" * 100_000],
    "a long file": ["run", "x" * 100_000 + ".toml"],
    "a long flag": ["run", "SMALL", "--" + "x" * 100_000],
    "a long verb": ["x" * 100_000],
    "a long value": ["sweep", "--workers", "x" * 100_000],
    "a name that moves the cursor": ["show", "\x1b[2J\u202e\n"],
    "a file whose name is no UTF-8": ["run", "\udcff.toml"],
    "a flag that is no UTF-8": ["run", "SMALL", "--\udcff"],
    "trace onto the scenario": ["run", "SMALL", "--trace", "SMALL"],
    "trace onto a device": ["run", "SMALL", "--trace", "/dev/null"],
    "trace through a link": ["run", "SMALL", "--trace", "/dev/stdout"],
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_code_2(capsys, small, tmp_path, arguments):
    (tmp_path / "many.toml").write_text(SMALL.replace("GPUS", "9"))
    words = {"SMALL": small, "DIRECTORY": str(tmp_path), "TOO-MANY": str(tmp_path / "many.toml")}
    code, out, err = run(capsys, *(words.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("offsim: ") and err.count("\n") == 1
    assert err[:-1].isprintable() and len(err) <= 500


def test_numbers_are_refused_with_the_words_that_files_get(capsys):
    _, _, err = run(capsys, "sweep", "--workers=1.5")
    assert err == "offsim: --workers=1.5: expected an integer from 1 to 1024\n"
    _, _, err = run(capsys, "best", "nope", "--vram=nan")
    assert err == "offsim: --vram=nan: expected a number above 0 and up to 10000\n"


@pytest.mark.parametrize("words", [["run", "config.json"], ["show", "config.json"], ["run", "SCENARIO"]])
def test_a_config_of_diffusers_is_refused_with_the_function_that_reads_it(capsys, tmp_path, words):
    path = tmp_path / "with-config.toml"
    path.write_text('extends = "flux.1-dev-rtx4090-layerwise"\nmodel = "config.json"\n')
    code, _, err = run(capsys, *(str(path) if word == "SCENARIO" else word for word in words))
    assert code == 2 and "config.json" in err and "offsim.scenario.diffusers.from_diffusers_config" in err


def test_a_trace_replaces_a_trace_and_nothing_else(capsys, small, tmp_path):
    path = tmp_path / "trace.json"
    for _ in range(2):
        assert run(capsys, "run", small, "--trace", str(path))[0] == 0
    path.write_text("precious")
    assert run(capsys, "run", small, "--trace", str(path))[0] == 2
    assert path.read_text() == "precious"


def test_a_wrong_name_gets_a_suggestion(capsys):
    _, _, err = run(capsys, "show", "h100-pci")
    assert "did you mean h100-pcie" in err


def test_a_bad_trace_path_is_refused_before_simulating(capsys, monkeypatch, small):
    monkeypatch.setattr("offsim.results.predict.predict", lambda *_: pytest.fail("simulated"))
    assert run(capsys, "run", small, "--trace", "/no/such/place.json")[0] == 2


def test_a_deadlock_says_what_waits_without_a_traceback(capsys, monkeypatch, small):
    def stuck(*_):
        raise DeadlockError("the program cannot finish:\n  rank 0 host: waits")

    monkeypatch.setattr("offsim.results.predict.predict", stuck)
    code, _, err = run(capsys, "run", small)
    assert (code, err) == (1, "offsim: the program cannot finish:\n  rank 0 host: waits\n")


def test_a_bug_shows_its_traceback_and_asks_for_a_report(capsys, monkeypatch, small):
    monkeypatch.setattr("offsim.results.predict.predict", lambda *_: 1 / 0)
    code, _, err = run(capsys, "run", small)
    assert code == 1
    assert "ZeroDivisionError" in err and "please report" in err


def test_an_interrupt_is_quiet(capsys, monkeypatch, small):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("offsim.results.predict.predict", interrupt)
    assert run(capsys, "run", small) == (130, "", "")


@pytest.mark.parametrize("argument", ["scenarios", "--help"])
def test_a_reader_that_went_away_is_no_error(argument):
    command = [sys.executable, "-m", "offsim", argument]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        started.stdout.close()
        assert started.stderr.read() == b""
        assert started.wait(60) == 141


HOSTILE = "\x1b[31m\x07\x9b31m\u202e\u200b\n caf\xe9 \u65e5\u672c [red]x[/red] :wine_glass:"
VISIBLE = r"\x1b[31m\x07\x9b31m\u202e\u200b"
ORDINARY = "caf\xe9 \u65e5\u672c [red]x[/red] :wine_glass:"


@pytest.fixture
def hostile(tmp_path):
    """A scenario whose every free text would move a terminal's cursor."""
    document = good()
    document["node"]["title"] = document["title"] = HOSTILE
    document["node"]["gpu"]["attention"][HOSTILE] = document["node"]["gpu"]["attention"]["default"]
    document["workload"]["attention_backend"] = HOSTILE
    document["model"]["text_encoder"]["name"] = HOSTILE
    for number, blocks in enumerate(document["model"]["blocks"]):
        blocks["name"] = f"{HOSTILE}{number}"
    path = tmp_path / "hostile.toml"
    path.write_text(toml(document))
    return str(path)


@pytest.mark.parametrize("words", [["run"], ["program", "--check"], ["best", "--quiet"]])
@pytest.mark.parametrize("colour", [False, True])
def test_what_files_say_moves_no_terminal(capsys, monkeypatch, hostile, words, colour):
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "300")
    code, out, err = run(capsys, words[0], hostile, *words[1:])
    assert (code, err) == (0, "")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out) if colour else out
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "\x1b[31m" not in out
    assert words[0] == "best" or VISIBLE in shown
    assert words[0] != "run" or ORDINARY in shown


@pytest.mark.parametrize("words", [["run"], ["best", "--quiet"]])
def test_json_is_ascii_and_says_the_same(capsys, hostile, words):
    _, out, _ = run(capsys, words[0], hostile, *words[1:], "--json")
    assert out.isascii() and all(c.isprintable() or c == "\n" for c in out)
    assert words[0] == "best" or any(HOSTILE in str(text) for text in values_of(json.loads(out)))


def values_of(document):
    """Every text in a JSON document, keys too."""
    if isinstance(document, dict | list):
        for entry in [*document, *(document.values() if isinstance(document, dict) else ())]:
            yield from values_of(entry)
    else:
        yield document


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("words", [["run"], ["run", "--json"], ["program", "--steps", "0"]])
def test_no_encoding_of_the_terminal_is_too_small(hostile, encoding, words):
    result = process(words[0], hostile, *words[1:], env=os.environ | {"PYTHONIOENCODING": encoding}, encoding=encoding)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


@pytest.mark.parametrize("words", ["scenarios", "--help", "show h100-pcie", "run {small} --json"])
def test_a_full_device_is_told(words, small):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "offsim", *words.format(small=small).split()]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (2, "offsim: standard output: no space left on device\n")


@pytest.mark.parametrize(("closed", "words", "code"), [(">&-", "scenarios", 0), ("2>&-", "run nope", 2)])
def test_closed_outputs_are_no_error(closed, words, code):
    command = f"'{sys.executable}' -m offsim {words} {closed}"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "")


@pytest.mark.parametrize("name", SCENARIOS)
def test_named_scenarios_load_under_their_file_name(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.title


def test_the_wan_scenarios_switch_experts_at_step_18_of_27():
    for name in (name for name in SCENARIOS if name.startswith("wan2.2")):
        experts = load_scenario(name).expert_of_step()
        assert (len(experts), experts.index(1)) == (27, 18)
        assert load_scenario(name).tokens == 86_400
