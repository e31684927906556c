"""The service over HTTP: its answers, its refusals, and that it keeps to its own description."""

import asyncio
import hashlib
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cifake_lib import runs
from cifake_lib.analyst import Analyst
from cifake_lib.detector import Detector
from cifake_lib.images import MAX_BYTES
from cifake_lib.routing import Router

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")
api = pytest.importorskip("cifake_lib.api")

KEYS = ("baseline_cnn", "resnet50")


class Red:
    """A network whose logit is how red an image is."""

    def __init__(self):
        self.asked, self.may_answer = [], threading.Event()
        self.may_answer.set()

    def predict_on_batch(self, images):
        self.may_answer.wait(10)
        self.asked.append(len(images))
        return (np.asarray(images, float)[..., 0].mean(axis=(1, 2)) / 25 - 5)[:, None]


@pytest.fixture(scope="module")
def networks():
    return {key: Red() for key in KEYS}


@pytest.fixture(scope="module")
def app(networks):
    manifest = {
        "run_id": "one",
        "temperature": 1.0,
        "model": {"input_size": 32},
        "data": {"counts": {"train": {"REAL": 3, "FAKE": 4}}},
    }
    found = {key: runs.Run(key, None, manifest) for key in KEYS}
    return api.create_app(Router(Analyst(Detector(networks, found, {}))))


@pytest.fixture(scope="module")
def address(app):
    """Of the service, on a port of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = threading.Thread(target=server.run)
    serving.start()
    while not server.started and serving.is_alive():
        time.sleep(0.05)
    (socket,) = server.servers[0].sockets
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    serving.join()


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, timeout=30) as opened:
        yield opened


@pytest.fixture
def described(address):
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


def picture(red=255, size=(40, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def run(coroutine):
    # In a thread: the browser tests leave an event loop running in the main one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(coroutine())).result()


def test_an_image_gets_what_the_dashboard_would_say(client):
    content = picture()
    found = client.post("/predict_all", params={"name": "a/../b.png"}, content=content)
    assert found.status_code == 200
    answer = found.json()
    assert answer["verdict"] == "FAKE" and answer["p_fake"] > 0.9 and answer["name"] == "a/b.png"
    assert set(answer["models"]) == set(KEYS) and answer["beside"] == {}
    assert answer["sha256"] == hashlib.sha256(content).hexdigest()
    assert (answer["width"], answer["height"], answer["format"]) == (40, 30, "PNG")
    assert "not proof" in answer["not_proof"]
    assert client.post("/predict_all", content=picture(0)).json()["verdict"] == "REAL"


def test_one_model_can_be_asked_alone(client, networks):
    before = len(networks["baseline_cnn"].asked)
    found = client.post("/predict/resnet50", content=picture(0))
    assert found.json() == {
        "model": "resnet50",
        "label": "REAL",
        "p_fake": pytest.approx(0.0067, abs=1e-3),
    }
    assert len(networks["baseline_cnn"].asked) == before
    unknown = client.post("/predict/vgg16", content=picture())
    assert unknown.status_code == 404 and "resnet50" in unknown.json()["detail"]


def test_what_is_there_can_be_asked(client):
    assert client.get("/health").json() == {"status": "ok", "models": list(KEYS)}
    (first, _) = client.get("/models").json()
    assert first["name"] == "Baseline CNN" and first["train_images"] == 7
    assert first["knows"] == "small images" and first["run_id"] == "one"
    assert "/predict_all" in client.get("/docs").text or "openapi" in client.get("/docs").text


@pytest.mark.parametrize("path", ["/predict_all", "/predict/resnet50"])
@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 415, "is empty"),
        (b"no image", 415, "please choose a JPEG"),
        (picture()[:50], 415, "damaged"),
        (b"\0" * (MAX_BYTES + 1), 413, "at most 30 MB"),
    ],
)
def test_what_is_no_image_is_refused_in_the_words_of_the_dashboard(
    client, path, content, status, words
):
    refused = client.post(path, content=content)
    assert refused.status_code == status and words in refused.json()["detail"]


def test_an_unknown_threshold_is_refused(client):
    refused = client.post("/predict_all", params={"threshold": "lucky"}, content=picture())
    assert refused.status_code == 422 and "balanced" in refused.text


@pytest.mark.parametrize("path", ["/predict_all", "/predict/resnet50"])
def test_images_that_wait_together_are_judged_together(client, networks, path):
    network = networks["resnet50"]
    network.asked.clear()
    network.may_answer.clear()
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(client.post, path, content=picture(20 * n)) for n in range(12)]
        threading.Timer(0.8, network.may_answer.set).start()
        said = [answer.result().json()["p_fake"] for answer in answers]
    assert said == sorted(said) and len(set(said)) == 12
    # The first of them at once, and all that came while it was judged in one go.
    assert sum(network.asked) == 12 and len(network.asked) <= 3


def test_when_too_many_wait_the_next_is_turned_away_and_not_kept(monkeypatch):
    monkeypatch.setattr(api, "WAITING", 2)

    async def ask():
        batcher = api._Batcher(lambda items: items)
        waiting = [asyncio.create_task(batcher.ask(n)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(api.HTTPException) as refused:
            await batcher.ask(2)
        worker = asyncio.create_task(batcher.run())
        answers = await asyncio.gather(*waiting)
        worker.cancel()
        return refused.value, answers

    refused, answers = run(ask)
    assert refused.status_code == 503 and refused.headers["Retry-After"] and answers == [0, 1]


def test_one_failure_is_told_and_the_next_image_is_judged():
    def work(items):
        if "bad" in items:
            raise RuntimeError("broken")
        return items

    async def ask():
        batcher = api._Batcher(work)
        worker = asyncio.create_task(batcher.run())
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.ask("bad")
        answer = await batcher.ask("good")
        worker.cancel()
        return answer

    assert run(ask) == "good"


@pytest.mark.parametrize(
    "asked", ["GET /health", "GET /models", "POST /predict/{model}", "POST /predict_all"]
)
def test_whatever_is_sent_is_answered_as_the_description_says(described, asked):
    """Requests made up from the schema, valid and not."""
    found = {each.ok().label: each.ok() for each in described.get_all_operations()}
    assert len(found) == 4

    @hypothesis.settings(
        max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=found[asked].as_strategy())
    def answered(case):
        case.call_and_validate()

    answered()
