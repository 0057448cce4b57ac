"""Nothing that comes from strangers reaches the terminal as anything but text."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from curate.bench.hostile.captions import TEXTS
from curate.cli.shared import TerminalConsole
from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_shard

HOSTILE = [text for texts in TEXTS.values() for text in texts]


def shown(renderable, **options):
    file = io.StringIO()
    TerminalConsole(file=file, width=200, highlight=False).print(renderable, **options)
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_console_lets_a_control_character_through(text):
    table = Table("a head")
    table.add_row(Text(text))
    for made in (shown(text, markup=False), shown(table), shown(Text(text))):
        assert all(line.isprintable() for line in made.split("\n"))


def test_styles_of_our_own_stay():
    file = io.StringIO()
    TerminalConsole(file=file, force_terminal=True, color_system="standard", highlight=False).print(
        "[red]a[/]\x1b[32mb"
    )
    assert file.getvalue() == "\x1b[31ma\x1b[0m [32mb\n"


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory, tiny_encoder):
    """A finished run with hostile captions under hostile keys, one picture of which is broken."""
    folder = tmp_path_factory.mktemp("hostile-terminal")
    pairs = make_pairs(160, seed=3)
    captions = [*HOSTILE, *("a dog" for _ in range(160 - len(HOSTILE)))]
    members = []
    for number, ((image, _), caption) in enumerate(zip(pairs, captions, strict=True)):
        key = f"{number:04d}\x1b[31m\u202e"
        members += [(f"{key}.png", image if number else b"broken"), (f"{key}.txt", caption.encode())]
    write_shard(folder / "00\x1b[31m\u202e.tar", members)
    made = Pipeline(folder, folder / "run", tiny_encoder)
    made.run()
    return made


@pytest.mark.parametrize(
    "arguments", [(), ("--top", "noisy", "--count", "160"), ("--status", "corrupt_image"), ("--key",)]
)
def test_inspect_shows_a_hostile_run_as_text(hostile_run, curate, arguments):
    more = [*arguments, "0001\x1b[31m\u202e"] if arguments == ("--key",) else arguments
    code, told, complaint = curate("inspect", hostile_run.output, *more)
    assert (code, complaint) == (0, "")
    assert all(line.isprintable() for line in told.split("\n"))


def test_run_and_its_errors_are_text(hostile_run, curate, tmp_path):
    code, told, complaint = curate("run", hostile_run.file())
    assert code == 0
    assert all(line.isprintable() for line in (told + complaint).split("\n"))
    (tmp_path / "p.yaml").write_text('input: {path: "none\\e[31m.tar"}\noutput: out\nstages: [embed]\n"\\e[2J": 1\n')
    code, told, complaint = curate("run", tmp_path / "p.yaml")
    assert code == 2
    assert all(line.isprintable() for line in (told + complaint).split("\n"))
