"""What makes finished work run again: what code does, never how it is worded or where it lies."""

import ast
import subprocess

import pytest

from siglip_study.study import versions
from siglip_study.study.versions import code_hash, what_it_does

BASE = '''"""Module."""
import math

LIMIT = 3
"""What the limit is."""


class A:
    """Class."""

    def f(self, x: int) -> int:
        """Method."""
        log.info("adding %d", x)
        if x > LIMIT:
            raise ValueError(f"x is {x}; expected at most {LIMIT}.")
        self.require(x > 0, f"x is {x}; expected more than 0")
        return x + LIMIT  # why
'''
SAME = {
    "a comment": BASE.replace("# why", "# because"),
    "a module docstring": BASE.replace("Module", "The module"),
    "an attribute docstring": BASE.replace("What the limit is", "Most that is allowed"),
    "a class docstring": BASE.replace('    """Class."""\n\n', ""),
    "a method docstring": BASE.replace("Method", "A method"),
    "blank lines": BASE.replace("\n\n\n", "\n"),
    "quotes and brackets": BASE.replace("x + LIMIT ", "(x + LIMIT) "),
    "an error's words": BASE.replace('f"x is {x}; expected at most {LIMIT}."', '"Too large."'),
    "the words of a requirement": BASE.replace("expected more than 0", "expected a number"),
    "a line of the log": BASE.replace('        log.info("adding %d", x)\n', ""),
    "an import": BASE.replace("import math", "import math, json"),
    "an annotation": BASE.replace("x: int", "x: float"),
}
OTHER = {
    "a constant": BASE.replace("= 3", "= 4"),
    "an operator": BASE.replace("x + LIMIT", "x - LIMIT"),
    "a name": BASE.replace("class A", "class B"),
    "a text that is used": BASE.replace("x + LIMIT", "x + LIMIT if x else 'Method.'"),
    "a default": BASE.replace("x: int)", "x: int = 1)"),
    "another error": BASE.replace("ValueError", "KeyError"),
    "when an error comes": BASE.replace("x > LIMIT", "x >= LIMIT"),
    "what is required": BASE.replace("x > 0", "x > 1"),
}


def does(text):
    return what_it_does(ast.parse(text))


@pytest.mark.parametrize("what", SAME)
def test_what_only_people_read_does_nothing(what):
    assert SAME[what] != BASE
    assert does(SAME[what]) == does(BASE)


@pytest.mark.parametrize("what", OTHER)
def test_what_computes_something_else_is_noticed(what):
    assert does(OTHER[what]) != does(BASE)


def test_names_and_order_of_files_do_not_count(tmp_path):
    one, two, moved = tmp_path / "one.py", tmp_path / "two.py", tmp_path / "moved.py"
    one.write_text("A = 1")
    two.write_text("B = 2")
    moved.write_text("A = 1")
    assert code_hash([one, two]) == code_hash([two, moved])
    assert code_hash([one]) != code_hash([one, two])


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
