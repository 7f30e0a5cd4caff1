"""Every public name at the top of a module has one definition."""

from tests.unit.public_names import defined_twice, listing, public_names


def test_names_are_those_of_functions_classes_and_values_at_the_top_of_a_module():
    text = "import a\nA, B = 1, 2\n_c = 3\nd: int = 4\ndef e(): f = 5\nif A:\n    class G: h = 6\n"
    assert list(public_names(text)) == ["A", "B", "d", "e", "G"]


def test_no_name_is_defined_twice():
    found = defined_twice()
    assert found == {}, listing(found)
