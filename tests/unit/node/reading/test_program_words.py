from ainode.node.reading.program_words import kept_words, marked_lines, terminal_lines


def test_what_could_control_a_terminal_is_left_out_and_the_rest_is_the_programs_own() -> None:
    content = b"\x1b]0;title\x07plain \x1b[31mred\x1b[0m\n\tindented\r\n\xff\xfe bytes\n" + "\u202egnp.txt\n".encode()
    assert terminal_lines(content) == ("]0;titleplain [31mred[0m", "    indented", "\ufffd\ufffd bytes", "gnp.txt")


def test_the_last_lines_are_shown_and_long_ones_are_cut() -> None:
    lines = terminal_lines("\n".join(str(number) for number in range(100)).encode() + b"\n\n" + b"x" * 5000)
    assert lines[:2] == ("81", "82")
    assert lines[-1] == "x" * 200
    assert len(lines) == 20


def test_words_are_forgotten_once_they_are_shown_and_their_file_goes_with_the_command() -> None:
    with kept_words() as words:
        words.path.write_bytes(b"no module named lungs\n")
        assert words.path.stat().st_mode & 0o077 == 0
        lines = words.take_lines()
        assert words.take_lines() == ()
    assert not words.path.exists()
    assert marked_lines("lungs", lines).endswith("\n  | no module named lungs")
    assert "its own" in marked_lines("lungs", lines)
