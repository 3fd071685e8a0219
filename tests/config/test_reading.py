"""Files become models, or errors that name file, line, key path, what is allowed and the nearest name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scalerl_lab.config import reading
from scalerl_lab.config.document import read_document
from scalerl_lab.config.objective import CISPO, GSPO
from scalerl_lab.config.reading import (
    available,
    read_profile,
    read_recipe,
    read_sweep,
    recipe_document,
    shipped,
)
from scalerl_lab.errors import ConfigError, LabError, NotFound

SWEEP = "recipe: r\nquestion: {type: axis, path: model.layers, values: [1]}\nbudget: {run_gpu_hours: 2e3}\n"
RECIPE = "model: {type: llama}\ntasks: {type: chain_arithmetic, num_heldout: 1000}\n"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep_error(text: str | bytes) -> list[str]:
    Path("ask.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as error:
        read_sweep("ask.yaml")
    return str(error.value).splitlines()


def recipe_error(text: str) -> list[str]:
    Path("mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_recipe("mine.yaml")
    return str(error.value).splitlines()


def test_a_file_without_a_name_is_called_as_the_file() -> None:
    Path("ask.yaml").write_text(SWEEP)
    sweep = read_sweep("ask.yaml")
    assert (sweep.name, sweep.recipe, sweep.budget.run_gpu_hours) == ("ask", "r", 2000.0)
    Path("ask.yaml").write_text("name: other\n" + SWEEP)
    assert read_sweep("ask").name == "other"


def test_a_comparison_is_about_its_first_recipe() -> None:
    text = "question: {type: compare, recipes: [a, b]}\nbudget: {run_gpu_hours: 2000}\n"
    Path("ask.yaml").write_text(text)
    assert read_sweep("ask.yaml").recipe == "a"
    (line,) = sweep_error(text + "recipe: b\n")
    assert "the first recipe compared is the control, so recipe must be 'a', got 'b'" in line


# ---------------------------------------------------------------- what is wrong with a file


def test_every_problem_is_listed_in_the_order_of_its_lines() -> None:
    lines = sweep_error(
        "question:\n"
        "  type: leave_one_out\n"
        "  arms:\n"
        "    dapo:\n"
        "      st: {loss.type: gspo}\n"
        "recpe: r\n"
        "budget: {run_gpu_hours: '16000'}\n"
        "seeds: {control: true}\n"
        "rule: {margin: -1, kill_probability: 0.4}\n"
    )
    assert lines == [
        "ask.yaml:1: recipe: is missing",
        "ask.yaml:4: question.arms.dapo.set: is missing",
        "ask.yaml:5: question.arms.dapo.st: unknown key 'st'; allowed: about, set; did you mean 'set'?",
        "ask.yaml:6: recpe: unknown key 'recpe'; allowed: about, budget, fit_start_gpu_hours, name, "
        "price_per_gpu_hour, profiles, question, recipe, rule, seeds; did you mean 'recipe'?",
        "ask.yaml:7: budget.run_gpu_hours: must be a number, got '16000'",
        "ask.yaml:8: seeds.control: must be a whole number, got True, or must be a list, got True",
        "ask.yaml:9: rule.kill_probability: must be greater than 0.5, got 0.4",
        "ask.yaml:9: rule.margin: must be greater than or equal to 0, got -1",
    ]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (
            "{type: leave_one_ou}",
            "question.type: unknown type 'leave_one_ou'; allowed: add_one, axis, compare, grid, "
            "leave_one_out, search; did you mean 'leave_one_out'?",
        ),
        ("{path: a}", "question: needs a type; allowed types: add_one, axis, compare, grid, leave_one_out"),
        (
            "axis",
            "question: must be a mapping of keys, got 'axis'; allowed types: add_one, axis, compare, grid, "
            "leave_one_out, search",
        ),
        ("{type: axis, path: a}", "question: give either values or factors"),
        ("{type: axis, path: a, values: []}", "question: an axis needs at least one point"),
        (
            "{type: axis, path: a, values: [1, 2], names: [x]}",
            "question: names has 1 entries for 2 points",
        ),
        (
            "{type: axis, path: a, values: [1], coupled: [{path: b, values: [1, 2]}]}",
            "question: coupled[0].values has 2 entries for 1 points",
        ),
        (
            "{type: axis, path: a, values: [1], coupled: [{path: b}]}",
            "question.coupled[0]: give either hold or values",
        ),
        (
            "{type: axis, path: a, values: [1], coupled: [{path: b, hold: sum}]}",
            "question.coupled[0].hold: must be one of 'product' or 'ratio', got 'sum'",
        ),
        ("{type: grid, axes: {a: []}}", "question.axes.a: "),
        (
            "{type: grid, axes: {a: &v [1, 2, 3, 4], b: *v, c: *v, d: *v, e: *v}}",
            "question: 1024 points; a grid has at most 1000",
        ),
        ("{type: leave_one_out}", "question: give either arms or baseline, not both and not neither"),
        ("{type: add_one}", "question: give either arms or target, not both and not neither"),
        ("{type: axis, path: a, factors: [0]}", "question.factors[0]: must be greater than 0, got 0"),
    ],
)
def test_a_bad_question(question: str, says: str) -> None:
    (line,) = sweep_error(f"recipe: r\nbudget: {{run_gpu_hours: 9}}\nquestion: {question}\n")
    assert line.startswith(f"ask.yaml:3: {says}")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("seeds: {arm: [1, 1]}", "seeds: arm names a seed twice: [1, 1]"),
        ("seeds: {arm: [-1]}", "seeds.arm[0]: must be greater than or equal to 0, got -1"),
        ("seeds: {arm: []}", "seeds.arm: "),
        ("seeds: {arm: 1001}", "seeds.arm: must be less than or equal to 1000, got 1001, or must be a list"),
        ("fit_start_gpu_hours: .nan", "fit_start_gpu_hours: .nan is not a finite number"),
        ("fit_start_gpu_hours: -.inf", "fit_start_gpu_hours: -.inf is not a finite number"),
        ("name: a b", "name: may hold letters, digits, '_', '.' and '-' only, got 'a b'"),
        ("profiles: [laptop]", "profiles: must be a mapping of keys, got ['laptop']"),
        ("<<: {name: x}", "<<: unknown key '<<'"),
    ],
)
def test_bad_values(more: str, says: str) -> None:
    (line,) = sweep_error(SWEEP + more + "\n")
    assert line.startswith("ask.yaml:4: ")
    assert says in line


def test_a_cap_below_one_run_is_refused() -> None:
    text = SWEEP.replace("2e3", "2000, sweep_gpu_hours: 1000")
    assert sweep_error(text) == ["ask.yaml:3: budget: sweep_gpu_hours (1000) does not cover one run (2000)"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "ask.yaml: is empty; a mapping of keys is expected"),
        ("# only words\n", "ask.yaml: is empty; a mapping of keys is expected"),
        ("~", "ask.yaml: is empty; a mapping of keys is expected"),
        ("\n- a\n", "ask.yaml:2: holds a list; a mapping of keys is expected"),
        ("42", "ask.yaml:1: holds a single value; a mapping of keys is expected"),
        ("a: 1\nb: c: d\n", "ask.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("a:\n\tb: 1\n", "ask.yaml:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: *x\n", "ask.yaml:1: not valid YAML: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2\n", "ask.yaml:2: not valid YAML: but found another document"),
        (b"a: 1\nb: \xff\n", "ask.yaml:2: not UTF-8 text (byte 8); save the file as UTF-8"),
        ("a: \x01", "ask.yaml: not valid YAML: unacceptable character #x0001"),
        ("x: " + "[" * 900, "ask.yaml: nested too deeply"),
        ("a: &x [*x]\n", "ask.yaml:1: a[0]: an anchor that contains itself"),
        ("? [a]\n: 1\n", "ask.yaml:1: a key must be text"),
        ("a: !!python/name:os.system x\n", "ask.yaml:1: a: 'x' with the YAML tag"),
        ("a: !!int x\n", "ask.yaml:1: a: 'x' with the YAML tag 'tag:yaml.org,2002:int' is not allowed here"),
    ],
)
def test_a_file_that_is_no_mapping(text: str | bytes, says: str) -> None:
    (line,) = sweep_error(text)
    assert line.startswith(says)


def test_a_key_given_twice_names_both_lines() -> None:
    assert sweep_error("a: 1\nb: {c: 1}\nb: 2\na: 3\n") == [
        "ask.yaml:3: b: key 'b' is given twice (first in line 2); keep one of them",
        "ask.yaml:4: a: key 'a' is given twice (first in line 1); keep one of them",
    ]


def test_a_folder_is_no_file() -> None:
    Path("ask.yaml").mkdir()
    with pytest.raises(NotFound):
        read_sweep("ask.yaml")
    with pytest.raises(NotFound, match=r"^gone\.yaml: no such file$"):
        read_document(Path("gone.yaml"))


def test_an_unreadable_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ask.yaml").write_text(SWEEP)

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigError, match=r"^ask\.yaml: cannot be read: Permission denied$"):
        read_sweep("ask.yaml")


# ---------------------------------------------------------------- scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1.5E+3", 1500.0), ("4.4e7", 4.4e7), (".5", 0.5), ("1_000.5", 1000.5), ("7", 7.0)],
)
def test_numbers_follow_yaml_1_2(text: str, value: float) -> None:
    Path("ask.yaml").write_text(SWEEP.replace("2e3", text))
    assert read_sweep("ask.yaml").budget.run_gpu_hours == value


@pytest.mark.parametrize(("text", "value"), [("16_000", 16000), ("0x10", 16), ("+3", 3), ("010", 10)])
def test_whole_numbers(text: str, value: int) -> None:
    Path("mine.yaml").write_text(RECIPE + f"evaluation: {{every_steps: {text}}}\n")
    assert read_recipe("mine.yaml").evaluation.every_steps == value


@pytest.mark.parametrize("text", ["no", "off", "12:30", "2026-11-01", "yes", "1.2.3"])
def test_words_stay_words(text: str) -> None:
    Path("ask.yaml").write_text(f"about: {text}\n" + SWEEP)
    assert read_sweep("ask.yaml").about == text


def test_keys_are_text_even_if_they_look_like_numbers() -> None:
    Path("mine.yaml").write_text(RECIPE + "stands_in: {8: small}\n")
    assert read_recipe("mine.yaml").stands_in == {"8": "small"}


# ---------------------------------------------------------------- recipes


def test_extends_lays_only_the_differences_over_the_other_recipe() -> None:
    Path("base.yaml").write_text(
        RECIPE + "about: words\nstands_in: {laptop: x}\nloss: {type: cispo, ratio_cap: 4}\n"
        "optimizer: {lr: 1e-3, warmup_steps: 7}\n"
    )
    Path("mine.yaml").write_text("extends: base\noptimizer: {lr: 2e-3}\nloss: {ratio_cap: 8.0}\n")
    Path("third.yaml").write_text("extends: mine\nloss: {type: gspo}\nabout: mine\n")
    mine, third = read_recipe("mine"), read_recipe("third")
    assert (mine.optimizer.lr, mine.optimizer.warmup_steps) == (2e-3, 7)
    assert mine.loss == CISPO(ratio_cap=8.0)
    assert (mine.name, mine.about, mine.stands_in) == ("mine", "", {})
    assert third.loss == GSPO()
    assert (third.optimizer, third.about) == (mine.optimizer, "mine")


def test_an_error_in_an_extended_recipe_names_the_file_it_stands_in() -> None:
    Path("base.yaml").write_text(RECIPE + "loss: {type: cispo, cap: 4}\nbatch: {prompts: 3}\n")
    assert recipe_error("extends: base\n\nnumerics: {trainer_head: bf61}\nbatch: {prompt: 3}\n") == [
        "mine.yaml:3: numerics.trainer_head: must be one of 'fp32' or 'bf16', got 'bf61'; "
        "did you mean 'bf16'?",
        "mine.yaml:4: batch.prompt: unknown key 'prompt'; allowed: epochs, mini_batches, prompts_per_step",
        "base.yaml:3: loss.cap: unknown key 'cap'; allowed: ratio_cap, type",
        "base.yaml:4: batch.prompts: unknown key 'prompts'; allowed: epochs, mini_batches, prompts_per_step; "
        "did you mean 'prompts_per_step'?",
    ]


def test_a_choice_that_is_replaced_takes_its_parents_lines_along() -> None:
    Path("base.yaml").write_text(RECIPE + "loss: {type: cispo, ratio_cap: 4}\n")
    Path("mine.yaml").write_text("extends: base\nloss: {type: gspo}\n")
    document = recipe_document("mine")
    assert ("loss", "ratio_cap") not in document.places
    assert document.place(("loss", "type")).file == "mine.yaml"
    assert document.place(("model", "type")).file == "base.yaml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: bsae\n", "mine.yaml:1: extends: no recipe 'bsae'; there are "),
        ("extends: mine\n", "mine.yaml:1: extends: goes in a circle: mine.yaml -> mine.yaml"),
        ("extends: [a]\n", "mine.yaml:1: extends: must be the name of a recipe, got ['a']"),
        ("extends: base\ntype: x\n", "mine.yaml:2: type: unknown key 'type'"),
    ],
)
def test_a_bad_extends(text: str, says: str) -> None:
    Path("base.yaml").write_text(RECIPE)
    assert recipe_error(text)[0].startswith(says)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("batch: {prompts_per_step: 4096}", "batch.prompts_per_step (4096) exceeds tasks.num_train (2048)"),
        ("evaluation: {num_prompts: 1001}", "evaluation.num_prompts (1001) exceeds tasks.num_heldout (1000)"),
        ("off_policy: {type: sync}\nloss: {type: gspo}", "every ratio is 1, so nothing is ever clipped"),
        ("off_policy: {type: ppo_off_policy, k: 1}\nloss: {type: ppo_clip}", "every ratio is 1"),
        ("engine: {generator: vllm}", "vllm needs GPUs, but resources.generator_gpus is 0"),
        ("engine: {trainer: deepspeed}", "deepspeed needs GPUs, but resources.trainer_gpus is 0"),
    ],
)
def test_impossible_pairs_are_refused(more: str, says: str) -> None:
    (line,) = recipe_error(RECIPE + more + "\n")
    assert says in line


@pytest.mark.parametrize(
    "more",
    [
        "off_policy: {type: sync}\nloss: {type: gspo}\nnumerics: {generator_head: bf16}",
        "off_policy: {type: ppo_off_policy, k: 2}\nloss: {type: ppo_clip}",
        "off_policy: {type: sync}\nloss: {type: reinforce}",
        "engine: {generator: vllm}\nresources: {generator_gpus: 1}",
    ],
)
def test_possible_pairs_are_not(more: str) -> None:
    Path("mine.yaml").write_text(RECIPE + more + "\n")
    assert read_recipe("mine.yaml").name == "mine"


CHAIN = "{weight: 2, tasks: {type: chain_arithmetic}}"
FILES = "{tasks: {type: prompt_files, train: t}}"


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ("{type: prompt_files, train: t}\nwarm_start: {type: demonstrations}", "a checkpoint has had its"),
        (f"{{type: mixture, parts: [{CHAIN}, {FILES}]}}", "only model.type=llama knows"),
        (f"{{type: mixture, parts: [{CHAIN}, {CHAIN}]}}", "at most one part may be chain_arithmetic, got 2"),
        (f"{{type: mixture, parts: [{FILES}]}}", "parts"),
        (f"{{type: mixture, parts: [{FILES}, {{weight: 0, tasks: {{type: prompt_files}}}}]}}", "weight"),
        ("{type: prompt_files, train: t, template: Solve}", "template must hold {prompt} once, got 'Solve'"),
        ("{type: reasoning_gym, generators: {}}", "generators"),
    ],
)
def test_data_must_fit_the_model(tasks: str, says: str) -> None:
    lines = recipe_error(f"model: {{type: checkpoint, path: m, params_billion: 1}}\ntasks: {tasks}\n")
    assert any(says in line for line in lines), lines


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("model: {type: llama, width: 66}", "model: heads must divide width, got width=66 and heads=4"),
        (
            "tasks: {type: chain_arithmetic, max_steps: 1}",
            "tasks: max_steps (1) must be at least min_steps (2)",
        ),
        (
            "warm_start: {type: demonstrations, worked_share: 0.99}",
            "warm_start: worked_share + results_only_share must be at most 1",
        ),
        (
            "length_control: {type: interruption, low_fraction: 0.9}",
            "length_control: high_fraction must be at least low_fraction",
        ),
    ],
)
def test_a_choice_must_hold_together(choice: str, says: str) -> None:
    Path("base.yaml").write_text(RECIPE)
    assert recipe_error(f"extends: base\n{choice}\n") == [f"mine.yaml:2: {says}"]


# ---------------------------------------------------------------- where files are found


def test_shipped_files_are_found_from_anywhere_by_name_or_by_their_path_in_the_checkout() -> None:
    for name in ("loo_16k", "loo_16k.yaml", "sweeps/loo_16k.yaml"):
        assert read_sweep(name).name == "loo_16k"
    assert read_profile("laptop").scale == "laptop"
    assert read_recipe("recipes/scalerl_tiny.yaml").name == "scalerl_tiny"
    assert {"laptop", "cluster"} <= set(available("profile"))


def test_the_nearer_file_wins(tmp_path: Path) -> None:
    Path("recipes").mkdir()
    Path("recipes/scalerl_tiny.yaml").write_text(RECIPE + "about: here\n")
    assert read_recipe("scalerl_tiny").about == "here"
    beside = tmp_path / "questions"
    beside.mkdir()
    (beside / "scalerl_tiny.yaml").write_text(RECIPE + "about: beside\n")
    assert read_recipe("scalerl_tiny", beside).about == "beside"
    Path("scalerl_tiny.yaml").write_text(RECIPE + "about: as given\n")
    assert read_recipe("scalerl_tiny", beside).about == "as given"


def test_an_installed_package_finds_what_it_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "scalerl_lab"
    (package / "shipped" / "sweeps" / "profiles").mkdir(parents=True)
    (package / "shipped" / "sweeps" / "only.yaml").write_text(SWEEP)
    monkeypatch.setattr(reading, "PACKAGE", package)
    assert available("sweep") == ("only",)
    for name in ("only", "sweeps/only.yaml"):
        assert shipped("sweep", name) == package / "shipped" / "sweeps" / "only.yaml"
    with pytest.raises(NotFound, match=r"^no sweep 'onyl'; there is only; did you mean 'only'\?$"):
        shipped("sweep", "onyl")
    with pytest.raises(NotFound, match=r"^no profile 'laptop'; there are none$"):
        shipped("profile", "laptop")


def test_known_failures_have_the_exit_code_of_a_user_error() -> None:
    for read in (read_sweep, read_recipe, read_profile):
        with pytest.raises(LabError) as error:
            read("no/such/thing")
        assert error.value.exit_code == 2


def test_reading_imports_nothing_heavy() -> None:
    code = (
        "import sys, scalerl_lab.config.reading, scalerl_lab.plan\n"
        "heavy = {'torch', 'ray', 'mlflow', 'transformers', 'matplotlib', 'scipy', 'numpy', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=reading.PACKAGE.parent
    )
    assert done.stdout.strip() == "[]"
