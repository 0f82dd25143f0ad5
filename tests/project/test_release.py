"""One version everywhere, and a page and workflows that name what exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import rmi_jax

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_stated_once():
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version", "readme"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "rmi_jax/__init__.py"
    stated = re.findall(
        r'^__version__ = "(.+)"', (ROOT / "rmi_jax/__init__.py").read_text(), re.MULTILINE
    )
    assert stated == [rmi_jax.__version__]
    assert re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", rmi_jax.__version__)


def test_the_readme_on_pypi_has_whole_addresses():
    text = (ROOT / "README.md").read_text()
    assert "](docs/" in text
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    for each in hook["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    links = re.findall(r"\]\((.*?)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    raw = PROJECT["project"]["urls"]["Source"].replace("github.com", "raw.githubusercontent.com")
    assert text.count(f"({raw}/main/docs/images/") == 2


def test_the_citation_agrees():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = PROJECT["project"]
    assert citation["version"] == rmi_jax.__version__
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Source"]
    released = re.search(
        rf"^## \[{re.escape(rmi_jax.__version__)}\] - (\S+)$",
        (ROOT / "CHANGELOG.md").read_text(),
        re.MULTILINE,
    )
    # A date only for what has one in the changelog.
    assert str(citation.get("date-released")) == (released[1] if released else "None")


FOLDER = ROOT / ".github"


def sessions():
    """The names of the sessions of nox."""
    source = (ROOT / "noxfile.py").read_text()
    return set(re.findall(r"^def (\w+)\(session\):", source, re.MULTILINE))


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.yml")), ids=lambda file: file.name)
def test_github_files_are_yaml_and_run_what_exists(file):
    content = yaml.safe_load(file.read_text())
    if file.parent.name != "workflows":
        return
    jobs = content["jobs"].values()
    for job in jobs:
        matrix = job.get("strategy", {}).get("matrix", {}).get("sessions", [])
        assert set(" ".join(matrix).split()) <= sessions()
    steps = [step for job in jobs for step in job["steps"]]
    assert steps
    for step in steps:
        assert "uses" in step or "run" in step
        for script in re.findall(r"\.ci/\w+", step.get("run", "")):
            assert (ROOT / script).stat().st_mode & 0o100, script
        for names in re.findall(r"nox -s ([\w ]+)$", step.get("run", "")):
            assert set(names.split()) <= sessions()
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", step["uses"])


def test_the_script_and_the_workflow_run_the_same_sessions():
    workflow = yaml.safe_load((FOLDER / "workflows" / "ci.yml").read_text())["jobs"]
    apart = {
        "readme",
        "weekly",
        "integrations",
        *" ".join(workflow["checks"]["strategy"]["matrix"]["sessions"]).split(),
    }
    script = (ROOT / ".ci" / "run").read_text()
    together = set(" ".join(re.findall(r"^[^#\n]*nox.* -s ([\w ]+)", script, re.MULTILINE)).split())
    # Where `colab` can run, as there, `notebook` has nothing to do.
    assert together - {"notebook"} == apart


def test_publishing_needs_no_secret():
    workflow = yaml.safe_load((FOLDER / "workflows" / "publish.yml").read_text())
    assert "secrets." not in (FOLDER / "workflows" / "publish.yml").read_text()
    allowed = [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert allowed == ["publish"]
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    assert publish["needs"] == "build"


def test_bug_reports_ask_for_what_is_needed():
    form = yaml.safe_load((FOLDER / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    required = {item["id"] for item in form["body"] if item.get("validations", {}).get("required")}
    assert {"versions", "device", "shapes", "options", "code"} <= required
