"""The house rules: imports point downwards, the wings' methods see arrays only, nothing is long.

The picture is in ``docs/architecture.md``. A module that is new at the top level gets its place in
`LAYERS`.
"""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

import webbkg
import webbkg.results

SOURCE = Path(webbkg.__file__).parent
WINGS = ("image", "wfss", "soss", "template")
GATHERING = ("measure", "segments", "group")
"""Rooms of a wing that look into files and models; all others hold its method and kernels."""
CLOSED = ("options", "record", "results", "run")
"""Packages that others import by their own names alone."""

LAYERS = (
    ("cli",),
    ("report.notebook", "subtraction"),
    ("command", "batch", "build", "simulate"),
    ("pipelines",),
    ("integration",),
    ("step",),
    ("run", "reporting"),
    ("apply", "record", "report"),
    tuple(f"{wing}.{room}" for wing in WINGS for room in GATHERING),
    ("modes",),  # what the wings are asked, and by which name they are found
    ("files",),
    WINGS,
    ("numerics",),
    ("startup", "options", "results"),
    ("errors",),
)

NUMERICS_MAY_USE = ("numerics", "errors")
NO_ARRAYS = (
    *("astropy.io", "astropy.table", "asdf", "crds", "gwcs", "logging", "stdatamodels"),
    *("stpipe", "tempfile", "yaml"),
)
"""What a method has no business with: files, data models, loggers."""
NO_PATHS = ("pathlib",)
"""Nor with these; numerics ask the operating system for its processors."""

MOST_LINES, MEDIAN_LINES, MOST_CLASS_LINES, MOST_FILE_LINES = 45, 8, 200, 700


@cache
def modules():
    """Return the syntax tree of each module but the package's own, by its name in it."""
    return {name: ast.parse(path.read_text()) for name, path in paths().items() if name}


@cache
def paths():
    """Return the file of each module by its name in the package, "" for the package's own."""
    files = sorted(SOURCE.rglob("*.py"))
    places = [path.parent if path.name == "__init__.py" else path.with_suffix("") for path in files]
    return {
        ".".join(place.relative_to(SOURCE).parts): path
        for place, path in zip(places, files, strict=True)
    }


@cache
def imports(name, *, for_types=True):
    """Return the full names that a module imports anywhere; those for type hints if wanted."""
    found = set()
    nodes = [modules()[name]]
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if for_types or not (isinstance(node, ast.If) and _is_for_types(node.test)):
            nodes += ast.iter_child_nodes(node)
    return found


def _is_for_types(test):
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


@cache
def neighbours(name, *, for_types=True):
    """Return the modules of the package that a module imports."""
    ours = set()
    for imported in imports(name, for_types=for_types):
        parts = imported.split(".")
        if parts[0] == "webbkg":
            longest = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
            ours |= {next((one for one in longest if one in modules()), None)}
    return ours - {None, name}


def layer(name):
    """Return the number of a module's layer, 0 the uppermost."""
    package = name.split(".")[0]
    for number, members in enumerate(LAYERS):
        if name in members:
            return number
    places = [number for number, members in enumerate(LAYERS) if package in members]
    assert places, f"{name} has no place in LAYERS of {Path(__file__).name}: give it one"
    return places[0]


def is_method(name):
    """Tell the method and kernels of a wing."""
    wing, _, room = name.partition(".")
    return wing in WINGS and room not in GATHERING


@pytest.mark.parametrize("name", modules())
def test_imports_point_downwards(name):
    upwards = {other for other in neighbours(name) if layer(other) < layer(name)}
    assert not upwards, f"{name} imports from above: {upwards}"


def test_no_imports_go_in_circles():
    graph = {name: neighbours(name, for_types=False) for name in modules()}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(modules())


@pytest.mark.parametrize("name", [name for name in modules() if name.split(".")[0] in WINGS])
def test_wings_do_not_know_each_other(name):
    others = {other for other in neighbours(name) if other.split(".")[0] in WINGS}
    assert {other.split(".")[0] for other in others} <= {name.split(".")[0]}


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("package", ["options", "record", "results"])
def test_rooms_of_a_mode_know_no_other_mode(package, wing):
    assert not neighbours(f"{package}.{wing}") & {f"{package}.{other}" for other in WINGS}


def test_all_results_are_imported_from_their_package():
    made = [node for room in rooms_of("results") for node in modules()[room].body]
    classes = {node.name for node in made if isinstance(node, ast.ClassDef)}
    assert "WfssResult" in classes
    assert classes <= {*webbkg.results.__all__}


@pytest.mark.parametrize("package", CLOSED)
def test_rooms_behind_one_door_are_imported_by_no_other(package):
    rooms = rooms_of(package)
    assert rooms
    others = modules().keys() - rooms - {package}
    assert not {one for name in others for one in neighbours(name) & rooms}


def rooms_of(package):
    return {name for name in modules() if name.startswith(f"{package}.")}


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("numerics.")])
def test_numerics_stand_on_their_own(name):
    assert {other.split(".")[0] for other in neighbours(name)} <= {*NUMERICS_MAY_USE}


@pytest.mark.parametrize(
    "name",
    [name for name in modules() if is_method(name) or name.startswith("numerics.")],
)
def test_methods_see_arrays_only(name):
    foreign = {
        imported
        for imported in imports(name)
        for forbidden in NO_ARRAYS + (NO_PATHS if is_method(name) else ())
        if f"{imported}.".startswith(f"{forbidden}.")
    }
    assert not foreign
    names = {node.attr for node in ast.walk(modules()[name]) if isinstance(node, ast.Attribute)}
    assert not names & {"environ", "environb", "getenv"}


def definitions(*kinds):
    return [
        (f"{name}.{node.name}", name, node)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    ]


@cache
def lines_of(name):
    return paths()[name].read_text().splitlines()


def code_lines(name, node):
    """Count a definition's lines with code in them; the docstring is none."""
    lines = lines_of(name)
    counted = set(range(node.lineno, node.end_lineno + 1))
    if ast.get_docstring(node) is not None:
        counted -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    texts = (lines[number - 1].strip() for number in counted)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def test_functions_fit_on_a_screen():
    sizes = [
        (full, code_lines(name, node))
        for full, name, node in definitions(ast.FunctionDef, ast.AsyncFunctionDef)
    ]
    assert not [full for full, size in sizes if size > MOST_LINES]
    assert median(size for _, size in sizes) <= MEDIAN_LINES


def test_files_are_rooms_not_halls():
    sizes = {name: len(lines_of(name)) for name in paths()}
    assert sizes
    assert not [name for name, size in sizes.items() if size > MOST_FILE_LINES]


def test_classes_are_small():
    sizes = [
        (full, node.end_lineno - node.lineno + 1) for full, _, node in definitions(ast.ClassDef)
    ]
    assert not [full for full, size in sizes if size > MOST_CLASS_LINES]
