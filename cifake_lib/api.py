"""The detector over HTTP, for programs: `make api`, then http://localhost:8867/docs.

    curl --data-binary @holiday.jpg http://localhost:8867/predict_all

Whoever answers, the limits and the sentences are those of the dashboard. Nothing is written, and
nothing is kept. Needs the extra `api`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel, Field

from cifake_lib.analyst import Analysis, Picture
from cifake_lib.decisions import TITLES
from cifake_lib.detector import Detector, ModelsMissing, ModelVerdict
from cifake_lib.exports import NOT_PROOF
from cifake_lib.images import MAX_BYTES, READABLE, ImageError, decode_image
from cifake_lib.names import display_name
from cifake_lib.routing import Router
from cifake_lib.runs import MODEL_SETS
from cifake_lib.unpacking import shown_name

TOGETHER = 16  # images that wait together are judged together
WAITING = 64  # images that may wait; further ones are turned away at once

Threshold = Literal[tuple(TITLES)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Error(BaseModel):
    """Why there is no answer."""

    detail: str


class ModelFacts(BaseModel):
    """A model that can be asked."""

    key: str
    name: str
    run_id: str
    input_size: int = Field(description="side in pixels of what it looks at")
    train_images: int
    knows: str = Field(description='"small images" or "photographs"')


class Health(BaseModel):
    """Whether images can be judged."""

    status: str
    models: list[str]


class ModelAnswer(BaseModel):
    """What one model says of an image."""

    model: str
    label: str = Field(description="the likelier class, REAL or FAKE")
    p_fake: Probability


class Answer(BaseModel):
    """What the dashboard would say of an image."""

    name: str
    verdict: str = Field(description="REAL, FAKE or UNCERTAIN")
    reason: str
    p_fake: Probability
    models: dict[str, Probability] = Field(description="of each model that had a say")
    beside: dict[str, Probability] = Field(description="of models that had none")
    outside: bool | None = Field(description="whether it is unlike what the models know")
    meaning: str
    threshold_name: str
    threshold: float
    certain_from: float | None
    width: int
    height: int
    format: str
    sha256: str
    not_proof: str = NOT_PROOF


class _Batcher:
    """Hands over to one thread what has been waiting, together."""

    def __init__(self, work: Callable[[list], Sequence]):
        self._work, self._waiting = work, asyncio.Queue(WAITING)

    async def ask(self, item: Any) -> Any:
        """Return what becomes of an item; a 503 if too many wait already."""
        answer = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((item, answer))
        except asyncio.QueueFull:
            detail = "Too many images are waiting; please try again in a few seconds."
            raise HTTPException(503, detail, {"Retry-After": "5"}) from None
        return await answer

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            together = [await self._waiting.get()]
            while len(together) < TOGETHER and not self._waiting.empty():
                together.append(self._waiting.get_nowait())
            try:
                answers = await asyncio.to_thread(self._work, [item for item, _ in together])
            except Exception as error:  # One failure must not end the service.
                answers = [error] * len(together)
            for (_, future), answer in zip(together, answers, strict=True):
                if future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


def create_app(router: Router | None = None, *, runs: str = "released") -> FastAPI:
    """Make the service.

    Args:
        router: Who judges; loaded at the start if None.
        runs: Which models are loaded, see `Detector.load`.
    """
    state: dict[str, Any] = {}

    def judge(asked: list[tuple[Picture, str]]) -> list[Analysis | ModelVerdict]:
        # By question: an operating point, of which mostly one is asked for, or a model.
        answers: dict[int, Analysis | ModelVerdict] = {}
        for question in {question for _, question in asked}:
            own = [n for n, (_, wanted) in enumerate(asked) if wanted == question]
            pictures = [asked[n][0] for n in own]
            if question in TITLES:
                found = state["router"].examine(pictures, threshold=question)
            else:
                whole = detectors()[question]
                alone = Detector(
                    {question: whole.models[question]}, {question: whole.runs[question]}, {}
                )
                verdicts = alone.predict([picture.image for picture in pictures])
                found = [verdict.models[question] for verdict in verdicts]
            answers |= dict(zip(own, found, strict=True))
        return [answers[n] for n in range(len(asked))]

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI):
        state["router"] = router or Router.load(runs=runs)
        state["batcher"] = _Batcher(judge)
        worker = asyncio.create_task(state["batcher"].run())
        yield
        worker.cancel()

    app = FastAPI(
        title="CIFAKE suite",
        description=f"Says whether an image looks generated. {NOT_PROOF}",
        lifespan=lifespan,
    )
    image_body = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
    refusals = {
        413: {"model": Error, "description": f"More than {MAX_BYTES // 2**20} MB"},
        415: {"model": Error, "description": f"No image; expected {READABLE}"},
        503: {"model": Error, "description": "Too many images are waiting"},
    }
    options = {"openapi_extra": {"requestBody": image_body | {"required": True}}}

    def detectors() -> dict[str, Detector]:
        kinds = [state["router"].small, state["router"].photographs]
        return {key: kind.detector for kind in kinds if kind for key in kind.detector.models}

    @app.get("/health")
    async def health() -> Health:
        return Health(status="ok", models=list(detectors()))

    @app.get("/models")
    async def models() -> list[ModelFacts]:
        found = []
        for key, detector in detectors().items():
            manifest = detector.runs[key].manifest
            found.append(
                ModelFacts(
                    key=key,
                    name=display_name(key),
                    run_id=manifest["run_id"],
                    input_size=manifest["model"]["input_size"],
                    train_images=sum(manifest["data"]["counts"]["train"].values()),
                    knows="photographs" if detector.sees_photographs else "small images",
                )
            )
        return found

    @app.post("/predict/{model}", responses={404: {"model": Error}, **refusals}, **options)
    async def predict(model: str, request: Request) -> ModelAnswer:
        if model not in detectors():
            raise HTTPException(404, f"Expected a model out of {list(detectors())}.")
        own = await state["batcher"].ask((await _picture(request, "image"), model))
        return ModelAnswer(model=model, label=own.label, p_fake=own.p_fake)

    @app.post("/predict_all", responses=refusals, **options)
    async def predict_all(
        request: Request,
        name: Annotated[str, Query(max_length=200)] = "image",
        threshold: Threshold = "balanced",
    ) -> Answer:
        picture = await _picture(request, shown_name(name))
        analysis = await state["batcher"].ask((picture, threshold))
        record, beside = analysis.record, analysis.beside
        return Answer(
            beside={key: said.p_fake for key, said in beside.models.items()} if beside else {},
            outside=analysis.outside,
            **{key: getattr(record, key) for key in Answer.model_fields if hasattr(record, key)},
        )

    return app


async def _picture(request: Request, name: str) -> Picture:
    """Read an image from a request, no further than what is allowed."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_BYTES:
            limit = MAX_BYTES // 2**20
            raise HTTPException(413, f"{name} is too large: expected at most {limit} MB.")
    try:
        image = await asyncio.to_thread(decode_image, bytes(content), name=name)
    except ImageError as error:
        raise HTTPException(415, str(error)) from None
    return Picture(image, bytes(content), name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve, as `python -m cifake_lib.api`."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m cifake_lib.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from elsewhere")
    parser.add_argument("--port", type=int, default=8867)
    parser.add_argument("--models", default="released", choices=list(MODEL_SETS))
    options = parser.parse_args(arguments)
    try:
        router = Router.load(runs=options.models)
    except ModelsMissing as error:
        parser.exit(3, f"{error}\n")
    uvicorn.run(create_app(router), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
