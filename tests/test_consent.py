"""Yes and no in ten languages: what is plain is read, what is not is asked about again, and no language talks over another."""

from __future__ import annotations

import pytest

from scripted_engine import ScriptedTalk, run
from test_tools_confirmed import ANSWER, asking
from textpro.agent.consent import read_consent
from textpro.agent.consent_words import SPACED, UNSPACED
from tool_machine import call

ANSWERS = {
    True: (
        "Ja, bitte.", "ja mach das", "Natürlich!", "na klar, gerne", "Oui, vas-y.", "D’accord", "bien sûr, merci",
        "Sí, por favor.", "si", "claro que sí", "vale", "Sì, grazie", "va bene", "certo", "Sim, por favor",
        "com certeza", "tá bom", "Ja graag", "doe maar", "natuurlijk, dank je wel", "是的，请。", "好的，谢谢", "可以",
        "没问题", "是的，请帮我打开灯", "はい", "はい、お願いします。", "うん、やって", "もちろんです", "네",
        "네, 해 주세요.", "그래요", "물론이죠, 부탁합니다", "äh ja",
    ),
    False: (
        "Nein, danke.", "nein, das war falsch, ich meinte etwas anderes", "bitte nicht", "auf keinen Fall",
        "natürlich nicht", "Non merci", "surtout pas", "bien sûr que non", "No, gracias.", "claro que no", "mejor no",
        "No grazie", "meglio di no", "Não, obrigado", "de jeito nenhum", "Nee, dank je", "liever niet", "不，谢谢",
        "不用了，谢谢", "不要", "算了", "いいえ、違います", "やめてください", "いりません", "아니요, 괜히 물어봤네요",
        "안 돼요", "하지 마세요", "nee",
    ),
    None: (
        "weiß nicht", "Warum nicht?", "vielleicht", "ja nein", "doch", "je ne sais pas", "pourquoi pas", "oui non",
        "pas de problème", "si tu veux", "no sé", "quizás", "si quieres", "forse", "non lo so", "sì no", "não sei",
        "talvez", "misschien", "ja, weet ik niet", "不知道", "好不好", "好像是", "不好意思", "是的，不要", "取消",
        "大丈夫です", "いいです", "はい、いいえ", "わかりません", "괜찮아요", "글쎄요", "네?", "はい？", "yes?",
        "no problem", "cancel it", "das Wetter", "wie spät ist es", "今天星期几", "oui, no", "電気", "はいしゃ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("said", "meaning"), [(said, meaning) for meaning, group in ANSWERS.items() for said in group])
def test_an_answer_is_read_where_it_is_plain(said: str, meaning: bool | None) -> None:
    assert read_consent(said) is meaning


@pytest.mark.parametrize("language", [*SPACED, *UNSPACED])
def test_every_word_of_a_list_says_by_itself_what_its_list_says(language: str) -> None:
    known = {**SPACED, **UNSPACED}[language]
    wrong = [word for words, meaning in ((known.yes | known.agreeing, True), (known.no, False), (known.doubt, None))
             for word in words if read_consent(word) is not meaning]  # fmt: skip
    assert not wrong, "a word that another language contradicts belongs into no list, or under doubt"


@pytest.mark.parametrize("language", [*SPACED, *UNSPACED])
def test_no_word_stands_in_two_lists(language: str) -> None:
    known = {**SPACED, **UNSPACED}[language]
    lists = [known.yes, known.agreeing, known.no, known.doubt, known.around, known.fillers]
    assert sum(map(len, lists)) == len(frozenset().union(*lists))
    assert all(word and word == word.lower().strip() for words in lists for word in words)


@pytest.mark.parametrize(("answer", "runs"), [("Ja, bitte", True), ("はい、お願いします", True), ("non", False)])
def test_a_tool_waits_for_a_yes_in_the_user_s_language(answer: str, runs: bool) -> None:
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.say("turn")
            await talk.session.send_text(answer)
            await talk.settled()

    run(main)
    assert bool(machine.ended) == runs


def test_an_unclear_answer_in_another_language_is_asked_about_again() -> None:
    machine = asking()

    async def main() -> None:
        async with ScriptedTalk([machine.tool], call(), ANSWER) as talk:
            await talk.say("turn")
            await talk.say("vielleicht")
            assert len(talk.of("confirmation_request")) == 2 and not machine.started
            await talk.say("ja")
        assert machine.ended == ["left"]

    run(main)
