"""Damaged characters, scripts and texts with hardly any letters are recognized."""

from __future__ import annotations

import pytest

from lasttoken.audit.text_quality import damage_in, hardly_text, script_shares

UNUSED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # by cp1252


def read_wrongly(character: str, encoding: str) -> str:
    """UTF-8 read as another encoding; bytes that cp1252 does not have stay control characters, as in browsers."""
    return "".join(bytes([byte]).decode(encoding if byte not in UNUSED else "latin-1") for byte in character.encode())


@pytest.mark.parametrize("character", [chr(code) for code in range(0xA0, 0x100)] + list("’“”—…€™😀"))
def test_utf8_read_wrongly_is_damage(character: str) -> None:
    for encoding in ("cp1252", "latin-1"):
        assert damage_in(f"wo{read_wrongly(character, encoding)}rd")
    assert damage_in(f"wo{character}rd") is None


def test_longer_damage_and_what_only_looks_like_it() -> None:
    for text in ("Привет, мир", "こんにちは", "Γειά σου"):
        assert damage_in(text) is None
        assert damage_in(text.encode().decode("latin-1"))
    assert damage_in("half a \ufffd") == "\ufffd"
    for fine in ("IRMÃ…", "«CHÂTEAU»", "passé…»", "É”", "ÅÄÖ – åäö", "naïve café", "Â", "à »", "50 €", "ÃO", "ÄÖÜß"):
        assert damage_in(fine) is None, fine


def test_scripts_and_rows_that_are_hardly_text() -> None:
    assert script_shares(["Привет", "ok", "12 !"]) == {"Cyrillic": 0.75, "Latin": 0.25}
    assert script_shares(["12", ""]) == {}
    texts = ["fine", "0800 123 456", ":-)", "", "  ", "你好!", "किताब", "ok :-)", "😀😀"]
    assert hardly_text(texts).tolist() == [False, True, True, False, False, False, False, False, True]
