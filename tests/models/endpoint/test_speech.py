"""How prompts are put to a server's model, and how requests are told apart."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from moevolve.config import EndpointSection
from moevolve.models.endpoint.speech import Speech
from moevolve.protocol.requests import GenerateRequest
from moevolve.protocol.sampling import Sampling
from moevolve.rollouts.wording import Wording
from moevolve.tasks.suite import suite

WORDED = Wording(suite("primer").only(levels=(1, 2)), shots=1, spell=True)


def request(prompt: str = "rev:abc=", n: int = 1, most: int = 100, key: int = 1) -> GenerateRequest:
    return GenerateRequest(
        attempt=0, prompt=prompt, sampling=Sampling(max_tokens=most, temperature=1.0), n=n, key=key
    )


def test_a_bare_prompt_is_one_message() -> None:
    assert Speech("m", EndpointSection()).messages("rev:abc=") == [{"role": "user", "content": "rev:abc="}]


def test_a_worded_prompt_is_a_conversation_and_its_answer_is_read_back() -> None:
    speech = Speech("m", EndpointSection(), WORDED)
    said = speech.messages("rev:abc=")
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
    assert said[-1]["content"] == "a b c ="
    assert speech.read("c b a\n", request()) == "cba"


@pytest.mark.parametrize("worded", [None, WORDED])
def test_a_system_prompt_comes_first_and_once(worded: Wording | None) -> None:
    said = Speech("m", EndpointSection(system="Be brief."), worded).messages("rev:abc=")
    assert said[0]["role"] == "system" and said[0]["content"].startswith("Be brief.")
    assert [message["role"] for message in said].count("system") == 1


def test_a_request_is_named_by_all_that_its_answer_depends_on() -> None:
    base, section = request(), EndpointSection()
    names = {
        Speech("m", section).digest(base),
        Speech("other", section).digest(base),
        Speech("m", section, WORDED).digest(base),
        Speech("m", EndpointSection(system="Be brief.")).digest(base),
        Speech("m", EndpointSection(api="completions")).digest(base),
        Speech("m", section).digest(request(prompt="y")),
        Speech("m", section).digest(request(n=2)),
        Speech("m", section).digest(request(most=9)),
        Speech("m", section).digest(request(key=2)),
    }
    assert len(names) == 9
    # How it is asked, and what it costs, does not change what is asked.
    other = EndpointSection(concurrency=1, retries=0, price_input=1.0, price_output=1.0)
    assert Speech("m", other).digest(base) == Speech("m", section).digest(base)


def test_a_schema_with_integers_of_any_size_names_its_request() -> None:
    speech = Speech("m", EndpointSection())
    asked = [replace(request(), schema={"maximum": most}) for most in (9, 10**20, 10**20 + 1)]
    assert len({speech.digest(each) for each in asked}) == 3


def test_what_a_request_takes_at_most_grows_with_its_samples() -> None:
    speech = Speech("m", EndpointSection(), WORDED)
    prompt, completion = speech.most(request(n=1))
    assert speech.most(request(n=3)) == (3 * prompt, 3 * completion)
    assert completion == 100
