import json
import logging
import os

from ml_assets.serving.logs import LogLines


def test_lines_are_json_and_are_written_when_they_are_flushed() -> None:
    read_end, write_end = os.pipe()
    lines = LogLines(write_end, {"process": "worker 1.0"})
    lines.line("info", "request", status=200, path="/v2")
    lines.line("info", "request", status=400, path="/ü")
    os.set_blocking(read_end, False)
    try:
        assert os.read(read_end, 1) == b"not to be read yet"
    except BlockingIOError:
        lines.flush()
    written = [json.loads(line) for line in os.read(read_end, 65536).splitlines()]
    assert [(line["process"], line["status"], line["path"]) for line in written] == [
        ("worker 1.0", 200, "/v2"),
        ("worker 1.0", 400, "/ü"),
    ]


def test_what_is_gathered_is_written_in_pieces_that_do_not_mix() -> None:
    read_end, write_end = os.pipe()
    lines = LogLines(write_end)
    for index in range(100):
        lines.line("info", "request", index=index)
    lines.flush()
    assert [json.loads(line)["index"] for line in os.read(read_end, 65536).splitlines()] == list(range(100))


def test_record_of_pythons_logging_has_its_fields_and_traceback() -> None:
    read_end, write_end = os.pipe()
    handler = LogLines(write_end)
    try:
        raise ValueError("the reason")
    except ValueError as error:
        handler.handle(
            logging.LogRecord(
                "name", logging.ERROR, "file", 1, "it %s", ("failed",), (ValueError, error, error.__traceback__)
            )
        )
    line = json.loads(os.read(read_end, 65536))
    assert (line["level"], line["message"], line["logger"]) == ("error", "it failed", "name")
    assert "ValueError: the reason" in line["traceback"]


def test_log_that_nobody_reads_stops_nothing() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    lines = LogLines(write_end)
    lines.line("info", "request")
    lines.flush()
