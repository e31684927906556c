"""What the served dashboard refuses to a visitor, and what is left of one who has gone."""

import json
import uuid
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import psutil
import pytest
import websocket
from jupyter_server.services.kernels.connection.base import (
    deserialize_msg_from_ws_v1,
    serialize_msg_to_ws_v1,
)
from serving import READY, fetch, kernel_of, process_of, serve, visit

from cifake_lib.paths import project_root

TOKEN = "correct-horse"
V1 = "v1.kernel.websocket.jupyter.org"


def tries(code):
    """What a client may ask of a kernel and no page needs, by type of message."""
    run = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    evaluate = {"type": "request", "seq": 1, "command": "evaluate"}
    return {
        "execute_request": run | {"user_expressions": {"made": code}, "stop_on_error": True},
        "complete_request": {"code": "dashboard.", "cursor_pos": 10},
        "inspect_request": {"code": "dashboard", "cursor_pos": 9, "detail_level": 1},
        "history_request": {"hist_access_type": "tail", "output": True, "raw": True, "n": 9},
        "debug_request": evaluate | {"arguments": {"expression": code}},
        "create_subshell_request": {},
    }


def pack(part):
    return json.dumps(part).encode()


class Client:
    """Whoever talks to a kernel past the page, in either protocol of its websocket."""

    def __init__(self, address, kernel, protocol=V1, **options):
        self._v1 = protocol == V1
        self._socket = websocket.create_connection(
            f"{address.replace('http', 'ws', 1)}api/kernels/{kernel}/channels",
            timeout=30,
            subprotocols=[V1] if self._v1 else None,
            **options,
        )

    def send(self, channel, kind, content, *, metadata=None):
        """Send a message; returns its id."""
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": kind,
            "username": "visitor",
            "session": "of-a-visitor",
            "date": datetime.now(UTC).isoformat(),
            "version": "5.4",
        }
        message = {
            "header": header,
            "parent_header": {},
            "metadata": metadata or {},
            "content": content,
        }
        if self._v1:
            self._socket.send_binary(serialize_msg_to_ws_v1(message, channel, pack))
        else:
            self._socket.send(json.dumps(message | {"channel": channel, "buffers": []}))
        return header["msg_id"]

    def receive(self):
        """Return type, id of the request and content of the next message."""
        data = self._socket.recv()
        if self._v1:
            parts = deserialize_msg_from_ws_v1(data)[1]
            header, parent, _, content = (json.loads(part) for part in parts[:4])
        elif isinstance(data, str):
            header, parent, content = (
                json.loads(data)[part] for part in ("header", "parent_header", "content")
            )
        else:  # Has buffers: none of the answers that are waited for.
            return "", "", {}
        return header["msg_type"], parent.get("msg_id", ""), content

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


def policy_of(headers):
    """Return the directives of a Content-Security-Policy with their sources."""
    rules = (rule.split() for rule in headers["Content-Security-Policy"].split(";"))
    return {name: set(sources) for name, *sources in rules}


# --- code, files, strangers ----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [V1, None], ids=["v1", "json"])
@pytest.mark.parametrize("channel", ["shell", "control"])
def test_a_visitor_cannot_run_code(visitor, server, tmp_path, channel, protocol):
    made = tmp_path / "made"
    forbidden = tries(f"open({str(made)!r}, 'w')")
    with Client(server, kernel_of(visitor), protocol) as client:
        sent = {client.send(channel, kind, content): kind for kind, content in forbidden.items()}
        last = client.send(channel, "kernel_info_request", {})
        # Requests are answered in turn: with this answer the others would be there too.
        answered, parent, kind = set(), "", ""
        while (parent, kind) != (last, "kernel_info_reply"):
            kind, parent, _ = client.receive()
            answered.add(sent.get(parent))
    assert answered == {None}
    assert not made.exists()


def test_widgets_still_talk_to_the_kernel(visitor, server):
    with Client(server, kernel_of(visitor)) as client:
        comm = uuid.uuid4().hex
        control = {"comm_id": comm, "target_name": "jupyter.widget.control", "data": {}}
        client.send("shell", "comm_open", control, metadata={"version": "1.0.0"})
        ask = {"comm_id": comm, "data": {"method": "request_states"}}
        client.send("shell", "comm_msg", ask)
        content = {}
        while content.get("comm_id") != comm:
            kind, _, content = client.receive()
    assert (kind, content["data"]["method"]) == ("comm_msg", "update_states")
    states = content["data"]["states"].values()
    assert any("cifake" in state["state"].get("_dom_classes", ()) for state in states)


def test_another_site_cannot_reach_the_kernel(visitor, server):
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        Client(server, kernel_of(visitor), origin="http://elsewhere.example")
    assert refusal.value.status_code == 403


def test_another_visitors_kernel_can_be_neither_listed_nor_guessed(visitor, server):
    kernel = kernel_of(visitor)
    assert uuid.UUID(kernel).version == 4  # 122 random bits
    lists = ("kernels", "kernels/", "sessions", "status", "kernelspecs", "terminals", "contents")
    for path in ("/api", *(f"/api/{name}" for name in lists), "/voila/api/contents/"):
        status, _, body = fetch(server, path)
        assert status in (403, 404) and kernel.encode() not in body, path
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        Client(server, uuid.uuid4())
    assert refusal.value.status_code == 404
    assert fetch(server, f"/api/kernels/{uuid.uuid4()}", method="DELETE")[0] == 404


WAYS_IN = """
/ /voila/files/ /voila/static/ /voila/templates/lab/static/ /voila/templates/../static/
/voila/labextensions/ /voila/api/themes/ /voila/api/contents/ /voila/tree/ /voila/render/
/files/ /static/ /api/contents/ /view/ /edit/ /lab/tree/ /nbconvert/html/
"""
DISGUISES = {
    "plain": lambda path: path,
    "slashes": lambda path: path.replace("/", "%2f"),
    "dots": lambda path: path.replace("..", "%2e%2e"),
    "all": lambda path: path.replace("..", "%2e%2e").replace("/", "%2F"),
    "twice": lambda path: quote(path.replace("..", "%2e%2e").replace("/", "%2F")),
    "backslashes": lambda path: path.replace("/", "%5c"),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_file_of_the_server_can_be_read(server, disguise):
    secret = (project_root() / "pyproject.toml").as_posix()
    beside, above = "dashboard.ipynb", "../pyproject.toml"
    for name in (beside, above, secret, "../" * 12 + secret.lstrip("/")):
        for way in WAYS_IN.split():
            path = way + DISGUISES[disguise](name)
            status, _, body = fetch(server, path)
            assert status >= 400, f"{path} is answered with {status}: {body[:200]}"
            assert b"cifake-suite" not in body and b"nbformat" not in body, path


def test_leaving_the_page_ends_its_kernel_at_once(browser, server):
    page = visit(browser, server)
    process = process_of(kernel_of(page))
    page.goto("about:blank")
    gone, _ = psutil.wait_procs([process], timeout=30)  # long before an idle kernel is culled
    assert gone == [process]
    page.context.close()


# --- a server with a token, which culls soon ------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(browser, tmp_path_factory):
    """The address of a server that asks for a token and ends what was left 15 s ago."""
    culling = [f"--MappingKernelManager.cull_{name}" for name in ("idle_timeout=15", "interval=1")]
    log = tmp_path_factory.mktemp("guarded") / "server.log"
    with serve(log, f"--token={TOKEN}", *culling) as address:
        yield address


@pytest.fixture(scope="module")
def guest(browser, guarded):
    """A visitor with the token: the page, its response and what the browser complained about."""
    page = browser.new_context().new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    response = page.goto(f"{guarded}?token={TOKEN}", timeout=READY)
    yield page, response, complaints
    page.context.close()


def test_with_the_token_the_page_works_and_obeys_its_own_policy(guest):
    page, response, complaints = guest
    assert response.status == 200
    # Made by a script of anywidget, which comes as a blob.
    page.locator(".cf-choose:enabled").wait_for(timeout=READY)
    page.locator(".cf-example:enabled").first.click(timeout=READY)
    page.locator(".cf-card").wait_for(timeout=READY)
    blocked = [text for text in complaints if "Content Security Policy" in text]
    # Voilà's page always asks a CDN for an icon font; without it nothing is missing.
    assert [text for text in blocked if "@fortawesome/fontawesome-free" not in text] == []


def test_without_the_token_there_is_a_form_and_nothing_else(guest, guarded):
    for query in ("", "?token=wrong"):
        status, headers, body = fetch(guarded, f"/{query}", hops=0)
        assert (status, b"jupyter-config-data" in body) == (302, False)
        assert urlsplit(headers["Location"]).path == "/login"
    kernel = kernel_of(guest[0])
    assert fetch(guarded, f"/api/kernels/{kernel}", hops=0)[0] in (302, 403)
    assert fetch(guarded, f"/voila/api/shutdown/{kernel}", method="POST", hops=0)[0] in (302, 403)
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        Client(guarded, kernel)
    assert refusal.value.status_code == 403


def test_headers_confine_the_page(guest, guarded):
    for headers in (guest[1].headers, fetch(guarded, "/login")[1]):
        # Playwright writes their names in small letters.
        headers = {name.title(): value for name, value in headers.items()}
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        policy = policy_of(headers)
        assert policy["default-src"] == policy["frame-ancestors"] == {"'none'"}
        assert policy["base-uri"] == policy["script-src-attr"] == {"'none'"}
        assert policy["form-action"] == {"'self'"}  # the form that asks for the token
        # Inline for the template of Voilà, a blob for anywidget; nothing from elsewhere, no eval.
        assert policy["script-src"] == {"'self'", "'unsafe-inline'", "blob:"}
        elsewhere = {"*", "http:", "https:", "ws:", "wss:"}
        assert not any(sources & elsewhere for sources in policy.values())


def test_injected_markup_would_be_powerless(guest):
    page = guest[0]
    title = page.title()
    blocked = page.evaluate(
        """async () => {
          const blocked = [];
          document.addEventListener("securitypolicyviolation",
            (event) => blocked.push(event.effectiveDirective));
          const there = "http://elsewhere.example/";
          const box = document.createElement("div");
          box.innerHTML = `<img src="data:," onerror="document.title = 'taken over'">
            <img src="${there}"><iframe src="${there}"></iframe><object data="${there}"></object>
            <link rel="stylesheet" href="${there}"><base href="${there}">`;
          document.body.append(box);
          const script = document.createElement("script");
          script.src = there;
          box.append(script);
          fetch(there).catch(() => {});
          // Later, since what is evaluated here by itself may do anything.
          setTimeout(() => { try { eval("document.title = 'taken over'"); } catch {} });
          await new Promise((resolve) => setTimeout(resolve, 500));
          box.remove();
          return blocked;
        }"""
    )
    assert set(blocked) >= {
        "script-src-attr",
        "script-src-elem",
        "script-src",
        "style-src-elem",
        "img-src",
        "frame-src",
        "object-src",
        "base-uri",
        "connect-src",
    }
    assert page.title() == title


def test_a_page_that_vanished_is_culled(guest):
    """Comes last: it closes the page of the tests above."""
    page = guest[0]
    process = process_of(kernel_of(page))
    page.wait_for_timeout(2_000)  # the culler has passed twice
    assert process.is_running()
    page.context.close()  # as a crash does it: nobody says goodbye
    process.wait(timeout=60)
