"""What a rule's hash notices, and what it does not."""

import subprocess

import pytest

from siglip_study.study import versions

BASE = '''"""Module."""
LIMIT = 3
"""What the limit is."""


class A:
    """Class."""

    def f(self, x: int) -> int:
        """Method."""
        return x + LIMIT  # why
'''
SAME = {
    "a comment": BASE.replace("# why", "# because"),
    "a module docstring": BASE.replace("Module", "The module"),
    "an attribute docstring": BASE.replace("What the limit is", "Most that is allowed"),
    "a class docstring": BASE.replace('    """Class."""\n\n', ""),
    "a method docstring": BASE.replace("Method", "A method"),
    "blank lines": BASE.replace("\n\n\n", "\n"),
    "quotes and brackets": BASE.replace("x + LIMIT", "(x + LIMIT)"),
}
OTHER = {
    "a constant": BASE.replace("= 3", "= 4"),
    "an operator": BASE.replace("x + LIMIT", "x - LIMIT"),
    "a name": BASE.replace("class A", "class B"),
    "a text that is used": BASE.replace("x + LIMIT", "x + LIMIT if x else 'Method.'"),
    "a default": BASE.replace("x: int)", "x: int = 1)"),
}


@pytest.fixture
def hash_of(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "_PACKAGE", tmp_path)

    def of(text, name="part"):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return versions.algorithm_hash(name)

    return of


@pytest.mark.parametrize("what", SAME)
def test_what_does_nothing_changes_nothing(hash_of, what):
    assert SAME[what] != BASE and hash_of(SAME[what]) == hash_of(BASE)


@pytest.mark.parametrize("what", OTHER)
def test_what_does_something_is_noticed(hash_of, what):
    assert hash_of(OTHER[what]) != hash_of(BASE)


def test_a_file_added_to_a_package_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "_PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("A = 1")
    before = versions.algorithm_hash("room")
    (tmp_path / "room" / "b.py").write_text("B = 1")
    assert versions.algorithm_hash("room") != before


@pytest.mark.parametrize("rule", versions.RULE_CODE)
def test_every_rule_names_files_that_exist(rule):
    assert len(versions.rule_code(rule)) == 12
    assert versions._files(versions.RULE_CODE[rule])


def test_a_mistyped_module_is_an_error():
    with pytest.raises(FileNotFoundError):
        versions.algorithm_hash("no_such_module")


def test_versions_tell_the_packages_that_decide():
    found = versions.versions()
    assert {"python", "torch", "transformers", "peft"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def test_a_commit_says_whether_the_tree_differs(tmp_path):
    assert versions.git_commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "f").write_text("1")
    subprocess.run([*git, "add", "f"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    clean = versions.git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "f").write_text("2")
    assert versions.git_commit(tmp_path) == clean + "+changes"
