"""Contract with uvicorn: undocumented behavior with which `serving.worker` accepts connections itself."""

import inspect

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


def test_configuration_is_loaded_without_a_server() -> None:
    assert list(inspect.signature(uvicorn.Config.load).parameters) == ["self"]


def test_state_holds_connections_tasks_and_headers() -> None:
    state = ServerState()
    assert (state.connections, state.tasks, state.default_headers) == (set(), set(), [])


def test_connection_is_made_of_configuration_state_and_lifespan() -> None:
    parameters = inspect.signature(HttpToolsProtocol.__init__).parameters
    assert list(parameters)[:4] == ["self", "config", "server_state", "app_state"]
    assert all(each.default is not each.empty for each in list(parameters.values())[4:])


@pytest.mark.parametrize("name", ["data_received", "on_message_begin", "on_headers_complete", "connection_lost"])
def test_connection_calls_what_is_extended(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


@pytest.mark.parametrize("name", ["shutdown", "send_400_response"])
def test_connection_has_what_is_called(name: str) -> None:
    assert callable(getattr(HttpToolsProtocol, name))


@pytest.mark.parametrize("name", ["cycle", "loop", "scope", "transport"])
def test_connection_has_what_is_read(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(HttpToolsProtocol)


def test_scope_is_there_once_a_message_begins_and_its_answer_says_when_it_is_complete() -> None:
    assert "self.scope = " in inspect.getsource(HttpToolsProtocol.on_message_begin)
    assert "self.response_complete = " in inspect.getsource(RequestResponseCycle.__init__)
