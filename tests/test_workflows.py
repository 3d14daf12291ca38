"""What the workflows must keep to: exact actions and packages, few permissions, and a release in steps.

Read line by line: the tests need no YAML library, and the workflows keep to one style.
"""

import re
from pathlib import Path

import pytest

GITHUB = Path(__file__).parent.parent / ".github"
WORKFLOWS = {path.name: path.read_text() for path in sorted(GITHUB.glob("workflows/*.yml"))}
RELEASES = ["release-native.yml", "release.yml"]
BUILDS = {"release.yml": ["build"], "release-native.yml": ["linux", "macos", "windows"]}

pytestmark = pytest.mark.skipif(not GITHUB.is_dir(), reason="the sdist has no workflows")
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)
each_release = pytest.mark.parametrize("name", RELEASES)


def jobs(name: str) -> dict[str, str]:
    """Split a workflow into its jobs."""
    _, _, text = WORKFLOWS[name].partition("\njobs:\n")
    parts = re.split(r"^  ([\w-]+):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(text: str) -> list[str]:
    """List what the steps run, as it stands in the workflow."""
    block = r"^( *)(?:- )?run: *[|>][+-]?\n((?:\1 .*\n|\n)+)"
    line = r"^ *(?:- )?run: *([^|>\s].*)\n"
    return [body for _, body in re.findall(block, text, flags=re.MULTILINE)] + re.findall(
        line, text, flags=re.MULTILINE
    )


def test_there_is_a_workflow_for_each_distribution() -> None:
    """Each of the two distributions has a release, started by tags of its own."""
    line = re.compile(r'^    tags: \["(.*)"\]$', re.MULTILINE)
    tags = {name: line.findall(text) for name, text in WORKFLOWS.items()}
    assert tags == {"ci.yml": [], "release-native.yml": ["native-v[0-9]*"], "release.yml": ["v[0-9]*"]}


@each_workflow
def test_actions_are_commits(name: str) -> None:
    """Every action is named by a full commit, with its tag in a comment."""
    used = re.findall(r"uses:.*", WORKFLOWS[name])
    assert used
    for line in used:
        assert re.fullmatch(r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_version() -> None:
    """All workflows use the same commit of an action."""
    used = set(re.findall(r"uses: (\S+)@(\S+ # \S+)", "".join(WORKFLOWS.values())))
    assert len(used) == len({action for action, _ in used})


@each_workflow
def test_the_top_grants_nothing(name: str) -> None:
    """No workflow gives a permission to all of its jobs."""
    top, _, _ = WORKFLOWS[name].partition("\njobs:\n")
    assert re.findall(r"^permissions:.*$", top, re.MULTILINE) == ["permissions: {}"]
    assert ": write" not in top


@each_workflow
def test_only_publishing_may_write(name: str) -> None:
    """A job other than the one that publishes may read the repository, and no more."""
    for job, text in jobs(name).items():
        granted = re.findall(r"^      ([\w-]+: (?:read|write))\b", text, re.MULTILINE)
        expected = ["id-token: write", "attestations: write"] if job == "publish" else ["contents: read"]
        assert granted == expected, job
        assert "write-all" not in text


@each_workflow
def test_a_checkout_keeps_no_token(name: str) -> None:
    """No checkout leaves a token in the files of a job."""
    text = WORKFLOWS[name]
    checkouts = re.findall(r"uses: actions/checkout@.*\n +with:\n +persist-credentials: false\n", text)
    assert len(checkouts) == text.count("actions/checkout@")


@each_workflow
def test_jobs_end(name: str) -> None:
    """Every job has a timeout, and every workflow says what happens when it starts twice."""
    assert "\nconcurrency:\n" in WORKFLOWS[name]
    for job, text in jobs(name).items():
        assert re.search(r"^    timeout-minutes: \d+$", text, re.MULTILINE), job


@each_workflow
def test_commands_hold_no_expressions(name: str) -> None:
    """Values reach commands through the environment, where they cannot become commands."""
    found = commands(WORKFLOWS[name])
    assert len(found) == len(re.findall(r"^ *(?:- )?run: ", WORKFLOWS[name], re.MULTILINE))
    for command in found:
        assert "${{" not in command


@each_workflow
def test_packages_come_by_hash(name: str) -> None:
    """Every pip install takes packages by their hashes, or takes no packages but what was built."""
    for line in re.findall(r"pip install .*", WORKFLOWS[name]):
        assert "--require-hashes" in line or "--no-index --no-deps" in line, line


@pytest.mark.parametrize("path", sorted(GITHUB.glob("requirements/*.txt")), ids=lambda path: path.stem)
def test_lists_are_exact(path: Path) -> None:
    """Every package in a list has one version and at least one hash."""
    text = re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE)
    entries = text.replace(" \\\n", " ").splitlines()
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+ .*--hash=sha256:[0-9a-f]{64}", entry), entry


@each_release
def test_a_release_uses_no_cache(name: str) -> None:
    """No job of a release restores files that another run has kept."""
    assert "actions/cache" not in WORKFLOWS[name]
    assert not re.search(r"^ +cache:", WORKFLOWS[name], re.MULTILINE)


@each_release
def test_the_tag_is_compared_with_the_version(name: str) -> None:
    """A release compares its tag with the version in the metadata before it keeps what it built."""
    text = jobs(name)[BUILDS[name][0]]
    assert text.index('if [ "$GITHUB_REF_NAME" !=') < text.index("actions/upload-artifact@")


@each_release
def test_builds_hand_over_hashes(name: str) -> None:
    """Each job that builds has the hashes of its files as its output, and no other job keeps files."""
    for job, text in jobs(name).items():
        builds = job in BUILDS[name]
        assert ("sha256: ${{ steps.hashes.outputs.sha256 }}" in text) == builds, job
        assert ("actions/upload-artifact@" in text) == builds, job


@each_release
def test_publishing_runs_no_code_of_the_repository(name: str) -> None:
    """The job that publishes checks out nothing and installs nothing."""
    text = jobs(name)["publish"]
    assert "actions/checkout@" not in text
    assert "pip" not in "".join(commands(text))
    assert [re.sub(r"@.*", "", line) for line in re.findall(r"uses: (.*)", text)] == [
        "actions/download-artifact",
        "actions/attest",
        "pypa/gh-action-pypi-publish",
    ]


@each_release
def test_publishing_checks_the_hashes(name: str) -> None:
    """The job that publishes checks the files by the hashes of all builds before it attests or uploads."""
    text = jobs(name)["publish"]
    for job in BUILDS[name]:
        assert f"${{{{ needs.{job}.outputs.sha256 }}}}" in text
    steps = ["sha256sum --check --strict", "diff <(", "actions/attest@", "gh-action-pypi-publish@"]
    found = [text.index(step) for step in steps]
    assert found == sorted(found)


@each_release
def test_publishing_waits_for_all_jobs(name: str) -> None:
    """Nothing is published unless every other job of the release has passed."""
    publish = jobs(name)["publish"]
    needed = re.findall(r"^    needs: \[(.*)\]$", publish, re.MULTILINE)
    assert set(needed[0].split(", ")) == jobs(name).keys() - {"publish"}
    assert "always()" not in publish


@each_release
def test_only_a_pushed_tag_publishes(name: str) -> None:
    """A release that was started by hand publishes nothing."""
    assert "\n    if: github.event_name == 'push' && " in "\n" + jobs(name)["publish"]
    assert "\n    environment: pypi\n" in jobs(name)["publish"]


@pytest.mark.parametrize(
    ("ecosystem", "folders"),
    [
        ("github-actions", ["/"]),
        ("pip", ["/", "/accel", "/.github/requirements"]),
        ("cargo", ["/accel"]),
    ],
)
def test_dependencies_are_updated(ecosystem: str, folders: list[str]) -> None:
    """Updates are proposed for each kind of dependency, each week, in one group, and after some days."""
    _, *entries = (GITHUB / "dependabot.yml").read_text().split("  - package-ecosystem: ")
    (entry,) = (entry for entry in entries if entry.startswith(f"{ecosystem}\n"))
    assert re.findall(r"(?<=[ \"])/[\w./-]*(?=[\"\n])", re.sub(r"#.*", "", entry)) == folders
    for line in ("interval: weekly", "default-days: 7", 'patterns: ["*"]'):
        assert line in entry
