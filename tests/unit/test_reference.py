"""Image references: which texts the parser accepts, which it refuses, and what the messages say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysreg_cli.errors import InvalidReference
from sysreg_cli.reference import ImageReference, is_digest, is_repository, parse

OWN = ("registry.local:9001", "198.51.100.10:9001")
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", ImageReference("busybox")),
        ("busybox:1", ImageReference("busybox", tag="1")),
        ("testuser/busy__box-x.y:V1.0_rc-2", ImageReference("testuser/busy__box-x.y", tag="V1.0_rc-2")),
        (f"a/b@{DIGEST}", ImageReference("a/b", digest=DIGEST)),
        ("registry.local:9001/a/b:c", ImageReference("a/b", tag="c")),
        ("REGISTRY.local:9001/a/b:c", ImageReference("a/b", tag="c")),
        (f"198.51.100.10:9001/a@{DIGEST}", ImageReference("a", digest=DIGEST)),
        ("docker.io/starlingx/x:v1.0", ImageReference("docker.io/starlingx/x", tag="v1.0")),
        ("a" * 255, ImageReference("a" * 255)),
        ("a:" + "t" * 128, ImageReference("a", tag="t" * 128)),
    ],
)
def test_accepts(text: str, expected: ImageReference) -> None:
    assert parse(text, OWN) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a:", "not a tag"),
        (":tag", "not an image name"),
        ("a:b:c", "not a tag"),
        ("a//b", "not an image name"),
        ("/a", "not an image name"),
        ("a/", "not an image name"),
        ("Busybox:1", "lower case; try busybox"),
        ("a..b", "not an image name"),
        ("a___b", "not an image name"),
        ("-a", "not an image name"),
        ("a" * 256, "longer than 255"),
        ("a:" + "t" * 129, "not a tag"),
        ("a:.t", "not a tag"),
        ("a@sha256:abc", "not a digest"),
        (f"a:t@{DIGEST}", "a tag and a digest"),
        ("other.host:5000/a:b", "not this registry"),
        ("bücher:1", "not an image name"),
        ("a\x00b", "not an image name"),
        ("a\nb:1", "not an image name"),
        ("a:\x1b[31m", "not a tag"),
        ("a:b\n", "not a tag"),
        (" a:b", "not an image name"),
        ("registry.local:9001/", "not an image name"),
    ],
)
def test_refuses_and_says_why_in_one_printable_line(text: str, says: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text, OWN)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@given(st.text(max_size=300))
def test_any_text_is_a_reference_that_prints_as_it_was_or_is_refused(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidReference as error:
        assert str(error).isprintable()
    else:
        assert str(reference) == text
        assert is_repository(reference.repository)


@pytest.mark.parametrize("text", [DIGEST, "sha256:" + "0123456789abcdef" * 4, "sha512:" + "9f" * 64])
def test_a_digest_of_the_registry(text: str) -> None:
    assert is_digest(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "a" * 64,
        DIGEST[:-1],
        f"{DIGEST}a",
        f"{DIGEST}\n",
        f"{DIGEST[:-1]}A",
        f"{DIGEST[:-1]}g",
        f"{DIGEST[:-2]} a",
        f"{DIGEST[:-2]}  ",
        f"{DIGEST[:-1]}\N{ARABIC-INDIC DIGIT ONE}",
        f"{DIGEST[:-1]}\udcff",
        f"sha512:{'a' * 64}",
        f"sha384:{'a' * 96}",
        f"SHA256:{'a' * 64}",
        f"sha256:{DIGEST}",
    ],
)
def test_no_digest_of_the_registry(text: str) -> None:
    assert not is_digest(text)
