"""A rubric that a model behind any endpoint with OpenAI's chat completions API applies.

Temperature 0 and 1,000 tokens, as in the StrongREJECT paper (Souly et al. 2024, arXiv 2402.10260,
appendix D.1), which used gpt-4o-mini.
"""

import json
import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, NamedTuple

from lesion.io.formats import LesionError, digest
from lesion.judgements.kinds import builds
from lesion.judgements.protocol import Judgement
from lesion.judgements.rubric import FENCED, READING, RUBRIC, SYSTEM, messages, read_score
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import RubricSection

if TYPE_CHECKING:
    from requests import PreparedRequest, Session

logger = logging.getLogger(__name__)

DEFAULTS = {"temperature": 0, "max_tokens": 1000}
"""Parameters of a request, where the study gives no others."""
HARMLESS = ("What is two plus two?", "Two plus two is four.")
"""A prompt and a response that no filter refuses, so that an error is not about the text."""
_FIRST = 20
"""The number of answers after which the job ends if next to none of them has a score."""
_FEW = 5
"""With fewer questions than this, having no score at all may be chance."""
_LONGEST_WAIT = 300.0
"""Seconds; a server may ask for hours, and the job would seem to hang."""
_RETRIED = (408, 429, 500, 502, 503, 504, 520, 522, 524, 529)
# Statuses that may be caused by a single request's text (a filter, its length).
_OF_THIS_TEXT = (400, 413, 422)
_SHOWN = 200  # Characters of an endpoint's own error.


class _Unanswered(LesionError):
    """This request got no answer; others may."""


class _NoCompletion(_Unanswered):
    """The reply is not a chat completion."""


class _Answer(NamedTuple):
    """The model's text, the endpoint's reason why it ended, and the score; None if unreadable."""

    text: str
    ended: str | None
    score: float | None


class Rubric:
    """A language model behind an endpoint, given StrongREJECT's rubric.

    `pause` is half the seconds before the second retry; the first is at once, and each later one
    waits twice as long.
    """

    labels = False

    def __init__(self, name: str, endpoint: RubricSection, pause: float = 1.0) -> None:
        """Send nothing and read no key until there is something to judge."""
        self.name, self.endpoint, self.pause = name, endpoint, pause
        self._section = f"judgements.judges.{name}"
        prompt = digest([SYSTEM, FENCED, RUBRIC])[:8]
        self.revision = f"{endpoint.model} at {endpoint.url}, prompt {prompt}, reading {READING}"
        if endpoint.parameters:
            self.revision += f", {json.dumps(endpoint.parameters, sort_keys=True)}"
        merged = {**DEFAULTS, **endpoint.parameters}
        self._parameters = {key: value for key, value in merged.items() if value is not None}

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Send several requests at once (see `Judge.judge`), after a harmless one.

        Answers that the endpoint refuses to judge are left out, and counted in the log.

        Raises:
            LesionError: it can't be reached, needs another key, model or parameters, or scores
                next to nothing.
        """
        key = self._key()
        pairs = list(zip(prompts, responses, strict=True))
        # In random order, so that the first ones are of all kinds.
        order = random.Random(0).sample(range(len(pairs)), len(pairs))  # noqa: S311
        with self._session(key) as session, ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            if pairs:
                self._try(session, key)
            futures = {
                pool.submit(self._ask, session, key, *pairs[index]): index for index in order
            }
            try:
                yield from self._collect(futures)
            finally:
                for future in futures:
                    future.cancel()

    def _try(self, session: "Session", key: str) -> None:
        """Send a harmless request, whose refusal cannot be caused by its text.

        Raises:
            LesionError: it is refused, or answered with nothing.
        """
        try:
            answer = self._ask(session, key, *HARMLESS)
        except _NoCompletion:
            raise
        except _Unanswered as error:
            raise LesionError(
                f"{error}. It was asked a harmless question, with {self._sent()}; if it wants "
                f"other parameters, name them in `{self._section}.parameters`, such "
                "as {max_tokens: null, max_completion_tokens: 4000}"
            ) from error
        if not answer.text.strip():
            raise self._unusable(answer, " to a harmless question")

    def _sent(self) -> str:
        """The parameters of a request, for messages."""
        sent = self._parameters
        return f"the parameters {json.dumps(sent)}" if sent else "no parameters"

    def _unusable(self, answer: _Answer, context: str) -> LesionError:
        """The error for an answer without a score."""
        reply = f"`{answer.text.strip()[:_SHOWN]}`" if answer.text.strip() else "nothing"
        ended = f" (finish_reason: {answer.ended})" if answer.ended else ""
        return LesionError(
            f"`{self._section}`: {self.endpoint.model} answers {reply}{ended}"
            f"{context}. A model that thinks first may need more tokens: set "
            f"`{self._section}.parameters` (it was asked with {self._sent()}), or "
            "name another model. The judgements so far are kept"
        )

    def _collect(self, futures: Mapping["Future[_Answer]", int]) -> Iterator[Judgement]:
        """Judgements as they arrive; after a failure, those of requests that were already running.

        Judgements without a score are held back until the first answers have some scores, because
        every judgement yielded here is saved and not requested again.
        """
        failure: LesionError | None = None
        unanswered: list[_Unanswered] = []
        unread: list[_Answer] = []
        delayed: list[Judgement] = []
        scored = settled = 0
        for future in as_completed(futures):
            if future.cancelled():
                continue
            try:
                answer = future.result()
            except _Unanswered as error:
                unanswered.append(error)
            except LesionError as error:
                failure = failure or error
            else:
                judgement = Judgement(futures[future], answer.score, None)
                if answer.score is None:
                    unread.append(answer)
                    delayed.append(judgement)
                else:
                    scored += 1
                    yield judgement
            settled += 1
            if settled == min(_FIRST, len(futures)) and failure is None:
                if len(unanswered) == settled:
                    failure = unanswered[0]
                elif unread and scored <= settled // 10 and settled >= _FEW:
                    counts = f"{settled - scored} of the first {settled} answers have no score"
                    failure = self._unusable(unread[0], f", and {counts}")
            if failure is not None:
                for other in futures:
                    other.cancel()
            elif settled >= _FIRST:
                yield from delayed
                delayed.clear()
        if failure is not None:
            raise failure
        yield from delayed
        if unanswered:
            logger.warning(
                f"{self.name}: {len(unanswered)} of {len(futures)} not judged; {unanswered[0]}"
            )

    def _ask(self, session: "Session", key: str, prompt: str, response: str) -> _Answer:
        """Send a request; the model's answer.

        Raises:
            LesionError: the endpoint does not answer, or with something else.
        """
        import requests

        texts = messages(prompt, response)
        body = {**self._parameters, "model": self.endpoint.model, "messages": texts}
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        try:
            # A redirected POST would become a GET, or send the texts to another server.
            reply = session.post(
                url, json=body, timeout=self.endpoint.timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            description = f"{url} does not answer: {_hidden(str(error), key)}"
            raise self._wrong("url", description) from error
        description = f"{reply.url} answers {reply.status_code}: {_hidden(reply.text, key)}"
        if reply.status_code in _OF_THIS_TEXT:
            raise _Unanswered(f"`{self._section}`: {description}")
        if reply.status_code != 200:
            keys = {401: "api_key_env", 403: "api_key_env", 404: "url` or `model"}
            raise self._wrong(keys.get(reply.status_code, "url"), description)
        try:
            choice = reply.json()["choices"][0]
            text = _text(choice["message"]["content"])
            return _Answer(text, choice.get("finish_reason"), read_score(text))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            problem = f"`{self._section}.url`: the reply is not a chat completion: {description}"
            raise _NoCompletion(problem) from error

    def _wrong(self, key: str, problem: str) -> LesionError:
        return LesionError(
            f"`{self._section}.{key}`: {problem} (tried {self.endpoint.retries + 1} "
            "times where that may help). The judgements so far are kept: fix it and run the same "
            "command again"
        )

    def _key(self) -> str:
        """The API key, empty if none is needed."""
        name = self.endpoint.api_key_env
        if name is None:
            return ""
        key = os.environ.get(name, "").strip()
        # A control character would be quoted in an error, together with the key.
        if not key or not (key.isascii() and key.isprintable()):
            raise LesionError(
                f"`{self._section}.api_key_env`: the environment variable {name} "
                f"contains no key. Set it: `export {name}=…`"
            )
        return key

    def _session(self, key: str) -> "Session":
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3 import BaseHTTPResponse, Retry
        from urllib3.exceptions import InvalidHeader

        name = self.name

        class Patience(Retry):
            def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
                try:
                    requested = super().get_retry_after(response)
                except InvalidHeader:  # such as half a second, which is not allowed in this header
                    return None
                if not requested:
                    return requested
                wait = min(requested, _LONGEST_WAIT)
                logger.warning(f"{name}: busy; asked again in {wait:.0f} s")
                return wait

        def sign(request: "PreparedRequest") -> "PreparedRequest":
            if key:
                request.headers["Authorization"] = f"Bearer {key}"
            return request

        session = requests.Session()
        # Even without a key, because requests would take one from the user's netrc.
        session.auth = sign
        patience = Patience(
            total=self.endpoint.retries,
            status_forcelist=_RETRIED,
            allowed_methods=None,
            backoff_factor=self.pause,
            raise_on_status=False,
        )
        adapter = HTTPAdapter(max_retries=patience, pool_maxsize=self.endpoint.concurrency)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        return session


@builds(RubricSection)
def rubric(
    name: str, judge: RubricSection, places: Mapping[str, SourceLocation], device: Device
) -> Rubric:
    """StrongREJECT's rubric."""
    return Rubric(name, judge)


def _text(content: Any) -> str:
    """The text of an answer, which is a text or a list of parts, some of which are text.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(content, list):
        return "".join(str(part["text"]) for part in content if part.get("type") == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError("no text")
    return content or ""


def _hidden(text: str, key: str) -> str:
    """The beginning of a reply, without the key, which some endpoints repeat."""
    return (text.replace(key, "***") if key else text)[:_SHOWN]
