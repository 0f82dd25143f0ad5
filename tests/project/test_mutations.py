"""The list of mutations has results of each, and, in the long run, fits the library."""

import mutations
import pytest

LIBRARY = mutations.ROOT / "rmi_jax"


@pytest.mark.slow  # so that one may rewrite the core before its mutations
@pytest.mark.parametrize("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_text_is_there_once(mutation):
    source = (LIBRARY / mutation.file).read_text()
    assert mutations.mutated(source, mutation) != source


def test_the_table_has_every_mutation_and_none_survived():
    rows = mutations.stored_rows()
    assert list(rows) == [mutation.name for mutation in mutations.MUTATIONS]
    assert [name for name, row in rows.items() if "**" in row] == []
