"""No file that the program did not write is ever replaced (`pytest -m examples`)."""

import os
import stat

import miniature
import pytest

with miniature.importing_examples():
    from segmentation import writing

pytestmark = pytest.mark.examples


def test_writes_and_replaces_its_own_files(tmp_path):
    file = tmp_path / "forêt 木.txt"
    for content in ("forêt\n", "木\n", b"\x00\xff\r\n"):
        writing.write_whole(file, content)
        assert file.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert {f.name for f in tmp_path.iterdir()} == {file.name, writing.RECORD}


@pytest.mark.parametrize("kind", ["file", "empty", "changed", "folder", "dead link", "link"])
def test_never_replaces_what_it_did_not_write(kind, tmp_path):
    file, elsewhere = tmp_path / "a.txt", tmp_path / "elsewhere.txt"
    writing.write_whole(tmp_path / "other.txt", "the same content")
    elsewhere.write_text("precious")
    if kind == "folder":
        file.mkdir()
    elif kind == "changed":
        writing.write_whole(file, "as written")
        file.write_text("as corrected by hand")
    elif "link" in kind:
        file.symlink_to(tmp_path / "nowhere" if kind == "dead link" else elsewhere)
    else:
        file.write_text("the same content" if kind == "file" else "")
    before = [file.lstat(), elsewhere.read_text(), sorted(tmp_path.iterdir())]
    for attempt in (
        lambda: writing.write_whole(file, "new"),
        lambda: writing.append(file, "new"),
        lambda: writing.check(tmp_path / "other.txt", file),
    ):
        with pytest.raises(writing.ForeignFile, match=r"a\.txt: is in the way"):
            attempt()
    assert [file.lstat(), elsewhere.read_text(), sorted(tmp_path.iterdir())] == before


def test_all_that_is_in_the_way_is_counted(tmp_path):
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.touch()
    with pytest.raises(writing.ForeignFile, match=r"a \(and 2 more\): is in the way"):
        writing.check(*files)


def test_a_log_grows_and_may_be_written_anew(tmp_path):
    log = tmp_path / "history.jsonl"
    writing.append(log, "é\n")
    writing.append(log, "b\n")
    assert log.read_bytes() == "é\nb\n".encode()
    with log.open("a") as file:  # as a killed process would leave it
        file.write("half a li")
    writing.write_whole(log, "b\n")
    writing.append(log, "c\n")
    assert log.read_bytes() == b"b\nc\n"


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    writing.write_whole(file, "old")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            writing.write_whole(file, "new")
    assert file.read_text() == "old"
    assert not list(tmp_path.glob(".*.partial"))
    writing.write_whole(file, "newer")  # still known as its own
    with (tmp_path / writing.RECORD).open("a") as record:
        record.write("a line that was cut sho")
    writing.write_whole(file, "newest")
    writing.write_whole(file, "last")
    assert file.read_text() == "last"


def test_knows_what_a_file_was_made_from(tmp_path):
    file = tmp_path / "a.png"
    assert not writing.is_from(file, "1")
    writing.write_whole(file, b"mask", source="1")
    assert writing.is_from(file, "1")
    assert not writing.is_from(file, ".")
    writing.write_whole(file, b"another mask", source="2")
    assert writing.is_from(file, "2")
    assert not writing.is_from(file, "1")
    file.write_bytes(b"corrected by hand")
    assert not writing.is_from(file, "2")


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    old = os.umask(0o027)
    try:
        writing.write_whole(tmp_path / "a.txt", "")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
