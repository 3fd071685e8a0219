"""Columns are guessed where there is one guess, and asked for where there are two."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalerl_lab.errors import DataError
from scalerl_lab.report.forecasts.columns import Asked, Columns, find_columns
from scalerl_lab.report.forecasts.sheet import read_sheet
from tests.report.forecasts.files import write


def columns(folder: Path, text: str, **asked: object) -> Columns:
    """The columns of a file with this text; rows are separated by ``/``."""
    return find_columns(read_sheet(write(folder, text.replace("/", "\n"))), Asked(**asked))  # type: ignore[arg-type]


R = "/a,1,0.5/a,2,0.6/b,1,0.4/b,2,0.5"


@pytest.mark.parametrize(
    ("text", "run", "x", "y", "se"),
    [
        # The names that files of this field have.
        ("run_id,compute,reward" + R, ("run_id",), "compute", "reward", None),
        ("Run,GPU Hours,Pass Rate" + R, ("Run",), "GPU Hours", "Pass Rate", None),
        ("arm,step,accuracy" + R, ("arm",), "step", "accuracy", None),
        ("name,train.globalStep,evalReward" + R, ("name",), "train.globalStep", "evalReward", None),
        ("env,timesteps,mean_return" + R, ("env",), "timesteps", "mean_return", None),
        ("trial,flops,pass@1" + R, ("trial",), "flops", "pass@1", None),
        ("model,tokens,score" + R, ("model",), "tokens", "score", None),
        # Wall time is a compute only where there is no better one; TensorBoard writes these three.
        ("Wall time,Step,Value/1700.5,10,0.3/1701.5,20,0.4", (), "Step", "Value", None),
        ("hours,value/1.5,0.3/2.5,0.4", (), "hours", "value", None),
        ("step,compute,y/1,10,0.3/2,20,0.4", (), "compute", "y", None),
        # What is said of a value is not the value.
        ("step,reward,reward_se,reward_std,num_samples/1,0.3,0.1,0.2,64/2,0.4,0.1,0.2,64",
         (), "step", "reward", "reward_se"),
        ("step,pass_rate,stderr,match_score/1,0.3,0.1,0.9/2,0.4,0.1,0.9", (), "step", "pass_rate", "stderr"),
        ("step,reward,length_se,reward_min/1,0.3,9,0/2,0.4,9,0", (), "step", "reward", None),
        ("step,tokens_per_second,reward/1,900,0.3/2,910,0.4", (), "step", "reward", None),
        ("step,value_loss,policy_loss,return/1,9,8,0.3/2,9,8,0.4", (), "step", "return", None),
        # By type and place where names say nothing.
        ("t,v/1,0.3/2,0.4", (), "t", "v", None),
        ("t,v,v_sem/1,0.3,0.1/2,0.4,0.1", (), "t", "v", "v_sem"),
        ("who,t,v" + R, ("who",), "t", "v", None),
        ("step,foo/1,0.3/2,0.4", (), "step", "foo", None),
        ("tick,reward/1,0.3/2,0.4", (), "tick", "reward", None),
        # pandas writes its index without a name.
        (",step,reward/0,1,0.3/1,2,0.4/2,3,0.5/3,4,0.6", (), "step", "reward", None),
        # What tells runs apart.
        ("algo,seed,step,return/a,0,1,3/a,1,1,4/b,0,1,5/b,1,1,6", ("algo", "seed"), "step", "return", None),
        ("run,seed,step,return/a,0,1,3/a,1,1,4/b,0,1,5/b,1,1,6", ("run", "seed"), "step", "return", None),
        ("run,seed,step,return/a,0,1,3/a,0,2,4/b,1,1,5/b,1,2,6", ("run",), "step", "return", None),
        ("arm,run_id,step,return/a,a0,1,3/a,a0,2,4/a,a1,1,5/b,b0,1,6", ("run_id",), "step", "return", None),
        ("model,seed,step,return/m,0,1,3/m,0,2,4/m,1,1,5/m,1,2,6", ("seed",), "step", "return", None),
        ("model,step,return/m,1,3/m,2,4", (), "step", "return", None),
        ("run_id,step,return/only,1,3/only,2,4", ("run_id",), "step", "return", None),
        ("id,step,return/1,1,3/2,2,4/3,3,5/4,4,6", (), "step", "return", None),
        ("when,note,step,return/mo,x,1,3/tu,x,2,4/we,y,3,5/th,y,4,6", ("note",), "step", "return", None),
    ],
)  # fmt: skip
def test_guesses(text: str, run: tuple[str, ...], x: str, y: str, se: str | None, tmp_path: Path) -> None:
    found = columns(tmp_path, text)
    assert (found.run, found.x, found.y, found.se, found.guessed) == (run, x, y, se, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,reward,accuracy/1,0.3,0.4",
         "the value could be any of the columns reward, accuracy; say which: --y reward "
         "(or, where each is a run: --y reward --y accuracy ...)"),
        ("step,epoch,reward/1,1,0.3", "compute could be any of the columns step, epoch; say which: --x step"),
        ("env steps,tokens,reward/1,1,0.3", 'say which: --x "env steps"'),
        ("step,a,b/1,2,3", "the value could be any of the columns a, b; say which: --y a"),
        ("a,b,c/1,2,3", "cannot tell compute and value in"),
        ("a,reward,c/1,2,3", "compute could be any of the columns a, c; say which: --x a"),
        ("step,reward,se,sem/1,0.3,0.1,0.1",
         "the standard error could be any of the columns se, sem; say which: --se se"),
        ("who,what,t,v/a,x,1,3/a,y,1,4/b,x,1,5/b,y,1,6",
         "the run could be any of the columns who, what; say which: --run who (twice for two), or"),
        ("step,loss/1,0.3/2,0.2", "loss: forecasts are of values that rise as a run gets better"),
        ("step,kind/1,x/2,y", "looks like the value among step, kind; name it: --y COLUMN"),
        ("step/1/2", "looks like the value among step; name it: --y COLUMN"),
        ("reward/1/2", "looks like compute among reward; name it: --x COLUMN"),
        ("step,reward,reward/1,2,3",
         "the value could be any of the columns reward, reward; give them names of their own"),
    ],
)  # fmt: skip
def test_what_cannot_be_guessed(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        columns(tmp_path, text)
    assert said in str(caught.value)


def test_what_is_asked_for_is_taken(tmp_path: Path) -> None:
    text = "Run,step,epoch,reward,accuracy,loss/a,1,1,2,3,4"
    found = columns(tmp_path, text, run=("run",), x="EPOCH", y="loss", se="none")
    assert found == Columns(("Run",), "epoch", "loss", None, None, False)
    assert columns(tmp_path, text, run=("none",), x="step", y="reward").run == ()
    assert columns(tmp_path, "step,seed,kind,y/1,0,x,3", run=("kind", "seed")).run == ("kind", "seed")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"y": "rewrad"},
            "has no column 'rewrad' (--y); there are: run, step, reward; did you mean 'reward'?",
        ),
        ({"x": "hours"}, "has no column 'hours' (--x)"),
        ({"run": ("arm",)}, "has no column 'arm' (--run)"),
        ({"se": "sem"}, "has no column 'sem' (--se)"),
        ({"arm": "arm"}, "has no column 'arm' (--arm)"),
        ({"x": "step", "y": "Step"}, "--x and --y both name the column 'step'"),
    ],
)
def test_what_is_asked_for_and_not_there(asked: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        columns(tmp_path, "run,step,reward/a,1,2", **asked)
    assert said in str(caught.value)


def test_columns_of_runs(tmp_path: Path) -> None:
    text = "step,b,a,note/1,0.2,0.1,x/2,0.3,0.4,y"
    found = columns(tmp_path, text, wide=("b", "a"))
    assert (found.x, found.wide, found.guessed) == ("step", (("b", "b"), ("a", "a")), True)
    assert found.sentence == "compute = step, value of a run each = b, a"
    assert not columns(tmp_path, text, x="step", wide=("b", "a")).guessed


def test_columns_as_weights_and_biases_exports_them(tmp_path: Path) -> None:
    header = "Step,grpo s1 - eval/pass,grpo s1 - eval/pass__MIN,grpo s1 - eval/pass__MAX,dapo - x - eval/pass"
    found = columns(tmp_path, f'"Step",{header[5:]}\n1,0.2,0.1,0.3,0.4\n2,0.3,0.2,0.4,0.5'.replace("/", "%"))
    assert [run for _, run in found.wide] == ["grpo s1", "dapo - x"]
    assert (found.x, found.y) == ("Step", "eval%pass")
    # Two metrics are no runs of one.
    with pytest.raises(DataError, match="could be any of"):
        columns(tmp_path, "step,a - reward,a - accuracy/1,0.2,0.3/2,0.3,0.4")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"wide": ("a", "b"), "run": ("run",)},
            "several --y are a run each, so that --run has nothing to say",
        ),
        ({"wide": ("a", "a")}, "one column is named twice"),
        ({"wide": ("a", "c")}, "has no column 'c' (--y)"),
    ],
)
def test_columns_of_runs_that_cannot_be(asked: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        columns(tmp_path, "run,step,a,b/x,1,0.2,0.3/x,2,0.3,0.4", **asked)
    assert said in str(caught.value)


def test_the_sentence_says_what_is_read(tmp_path: Path) -> None:
    found = columns(tmp_path, "algo,seed,step,return,return_se/a,0,1,3,1/a,1,1,4,1/b,0,1,5,1/b,1,1,6,1")
    assert found.sentence == "run = algo and seed, compute = step, value = return, standard error = return_se"
    assert columns(tmp_path, "t,v/1,2/3,4").sentence == "one run, compute = t, value = v"
