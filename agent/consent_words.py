"""How people say yes and no, by language: plain data for `consent.py`. Only words whose everyday sense is an answer to a question
are listed, in lower case. What may mean either stands under `doubt`, so that it is asked about again: "no problem", Japanese
"大丈夫です", Korean "괜찮아요", and words for "cancel", since the question may be whether to cancel.

The lists were written from everyday use, not taken from a work; native speakers have not read them yet. A dictionary's entry for
an answer particle (Duden, Larousse, the DLE of the RAE, Treccani, Priberam, Van Dale, 现代汉语词典, 大辞林, 표준국어대사전) is
what a correction should name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ConsentWords:
    """Words and phrases of one language. `yes` agrees at the beginning of an answer whatever follows, `agreeing` only where
    nothing is said but that and what is in `around`; `no` refuses; `doubt` makes an answer unclear; `fillers` do not count."""

    yes: frozenset[str]
    agreeing: frozenset[str]
    no: frozenset[str]
    doubt: frozenset[str]
    around: frozenset[str]
    fillers: frozenset[str]


def _words(*, yes: str, agreeing: str, no: str, doubt: str, around: str, fillers: str) -> ConsentWords:
    """From lists with commas."""
    lists = (yes, agreeing, no, doubt, around, fillers)
    return ConsentWords(*(frozenset(one.strip() for one in each.split(",")) for each in lists))


SPACED: Mapping[str, ConsentWords] = MappingProxyType(
    {
        "en": _words(
            yes="yes, yeah, yep, yup",
            agreeing="ok, okay, sure, sure thing, alright, all right, certainly, absolutely, definitely, confirm, "
            "confirmed, affirmative, go ahead, do it, do that, of course, please do, yes please",
            no="no, nope, nah, never, don't, dont, do not, stop, not, of course not, absolutely not, certainly not, "
            "definitely not",
            doubt="don't know, dont know, do not know, why not, not sure, not yet sure, no idea, no problem, cancel, maybe, "
            "perhaps",
            around="please, thanks, thank, you, that, it, sounds, good, i, am, just, now",
            fillers="um, uh, er, ah, oh, hm, hmm, mhm, well, so",
        ),
        "de": _words(
            yes="ja, jawohl, jep, jo, jaja",
            agreeing="ok, okay, klar, na klar, sicher, gerne, gern, gut, natürlich, selbstverständlich, einverstanden, "
            "genau, richtig, stimmt, in ordnung, mach das, mach es, mach mal, auf jeden fall, von mir aus",
            no="nein, nee, nö, nicht, niemals, stopp, stop, halt, keinesfalls, auf keinen fall, lieber nicht, "
            "natürlich nicht, sicher nicht, lass es, lass das",
            doubt="weiß nicht, weiß ich nicht, weiß es nicht, weiss nicht, weiss ich nicht, weiss es nicht, keine ahnung, "
            "nicht sicher, warum nicht, wieso nicht, kein problem, jein, vielleicht, na ja, naja, abbrechen",
            around="bitte, danke, sehr, das, es, jetzt, nur, mal, schön, dir, ihnen",
            fillers="äh, ähm, öh, hm, hmm, also, oh, ah, na, tja",
        ),
        "fr": _words(
            yes="oui, ouais, ouaip",
            agreeing="ok, okay, d'accord, d accord, bien sûr, bien sur, certainement, absolument, volontiers, entendu, "
            "vas y, allez y, fais le, faites le, exactement, tout à fait, avec plaisir, ça marche",
            no="non, pas, jamais, arrête, arrêtez, stop, surtout pas, pas question, bien sûr que non, certainement pas",
            doubt="sais pas, ne sais pas, pas sûr, pas sûre, pourquoi pas, aucune idée, pas de problème, pas de souci, "
            "peut être, annule, annulez",
            around="merci, s'il te plaît, s'il vous plaît, s'il te plait, s'il vous plait, bien, maintenant, beaucoup",
            fillers="euh, heu, hum, hm, ah, oh, ben, bah, bon, alors, donc",
        ),
        "es": _words(
            yes="sí, sip, claro que sí, por supuesto que sí",
            agreeing="si, ok, okay, vale, claro, por supuesto, de acuerdo, seguro, desde luego, adelante, hazlo, hágalo, "
            "bueno, correcto, exacto, confirmo, confirmado, está bien",
            no="no, nunca, jamás, alto, claro que no, por supuesto que no, mejor no, desde luego que no, en absoluto",
            doubt="no sé, no se, no lo sé, no lo se, no estoy seguro, no estoy segura, por qué no, por que no, ni idea, "
            "no hay problema, no hay ningún problema, sin problema, tal vez, quizás, quizá, a lo mejor, depende, cancela, "
            "cancele",
            around="por favor, gracias, muchas, muy, bien, ahora",
            fillers="eh, em, mmm, hm, ah, oh, pues, este",
        ),
        "it": _words(
            yes="sì, certo che sì",
            agreeing="si, ok, okay, certo, certamente, sicuro, va bene, d'accordo, d accordo, esatto, volentieri, fallo, "
            "lo faccia, procedi, proceda, assolutamente sì, assolutamente si, confermo, perfetto",
            no="no, non, mai, ferma, fermati, fermo, stop, assolutamente no, certo che no, meglio di no, per niente",
            doubt="non so, non lo so, non sono sicuro, non sono sicura, perché no, perche no, nessuna idea, "
            "non c'è problema, nessun problema, forse, può darsi, boh, dipende, annulla, annulli",
            around="per favore, per piacere, grazie, prego, pure, adesso, ora",
            fillers="eh, ehm, mah, hm, ah, oh, beh, allora, dunque",
        ),
        "pt": _words(
            yes="sim, claro que sim, com certeza que sim",
            agreeing="ok, okay, claro, com certeza, certo, certamente, pode, pode sim, está bem, tá bem, tá bom, está bom, "
            "tudo bem, concordo, isso mesmo, exato, exatamente, confirmo, faça isso, faz isso, avança",
            no="não, nao, nunca, jamais, claro que não, de jeito nenhum, de modo nenhum, de forma alguma, melhor não",
            doubt="não sei, nao sei, não tenho certeza, não tenho a certeza, por que não, porque não, não faço ideia, "
            "não há problema, não tem problema, sem problema, pois não, talvez, pode ser, depende, cancela, cancele",
            around="por favor, obrigado, obrigada, muito, se faz favor, agora",
            fillers="ah, eh, hm, oh, bem, bom, pois, então",
        ),
        "nl": _words(
            yes="ja, jawel, jazeker, jep",
            agreeing="ok, okay, oké, oke, zeker, natuurlijk, uiteraard, graag, akkoord, prima, goed, in orde, doe maar, "
            "doe dat, ga je gang, klopt, precies",
            no="nee, neen, niet, nooit, stop, niet doen, liever niet, zeker niet, natuurlijk niet, geenszins, laat maar",
            doubt="weet niet, weet ik niet, weet het niet, niet zeker, waarom niet, geen idee, geen probleem, misschien, "
            "nou ja, annuleer",
            around="alsjeblieft, alstublieft, bedankt, dank je, dank u, wel, hoor, maar, nu, dat",
            fillers="eh, uh, um, hm, ah, oh, nou, tja, dus",
        ),
    }
)
"""Languages that put spaces between words. Nobody says which one is spoken, so all are read at once."""

UNSPACED: Mapping[str, ConsentWords] = MappingProxyType(
    {
        "zh": _words(
            yes="是的, 是啊, 对的, 對的, 好的, 可以的, 没错, 沒錯, 当然, 當然",
            agreeing="是, 对, 對, 好, 行, 可以, 确认, 確認, 同意, 好啊, 好吧, 请吧, 請吧, 没问题, 沒問題, 当然可以, 當然可以",
            no="不, 不是, 不对, 不對, 不要, 不行, 不可以, 不用, 不必, 别, 別, 不好, 不同意, 算了, 停, 没有, 沒有, 当然不, 當然不",
            doubt="不知道, 不清楚, 不确定, 不確定, 不一定, 好像, 也许, 也許, 可能, 随便, 隨便, 为什么不, 為什麼不, 不好说, "
            "不好說, 是不是, 好不好, 行不行, 对不对, 對不對, 可不可以, 要不要, 要不, 取消",
            around="谢谢, 謝謝, 请, 請, 吧, 啊, 呀, 哦, 了",
            fillers="嗯, 呃, 那个, 那個, 额, 唔",
        ),
        "ja": _words(
            yes="はい, はいはい, ええ, うん, そうです, もちろん, もちろんです, ぜひ",
            agreeing="お願いします, おねがいします, お願い, おねがい, そうして, そうしてください, オーケー, ok, 了解, "
            "了解です, いいですよ, どうぞ, やって, やってください, してください, 分かりました, わかりました",
            no="いいえ, いえ, いや, いやです, だめ, だめです, 駄目, 駄目です, ダメ, ダメです, 違います, ちがいます, 違う, "
            "やめて, やめてください, やめます, しないで, しないでください, いりません, 要りません, いらない, 不要, ううん, "
            "しません",
            doubt="わからない, 分からない, わかりません, 分かりません, 知りません, どうかな, どうしよう, たぶん, "
            "かもしれない, どちらでも, 大丈夫, 大丈夫です, いいです, いい, いいよ, 結構, 結構です, けっこうです, "
            "キャンセル, 中止, 取消",
            around="ありがとう, ありがとうございます, です, よ, ね, それで",
            fillers="えっと, ええと, えーと, あの, あのう, うーん, まあ, ああ",
        ),
        "ko": _words(
            yes="네, 예, 응, 네네, 그럼요, 물론이죠, 물론이에요, 물론입니다",
            agreeing="그래, 그래요, 좋아, 좋아요, 좋습니다, 알겠어, 알겠어요, 알겠습니다, 맞아, 맞아요, 맞습니다, 당연하죠, "
            "물론, 부탁해, 부탁해요, 부탁합니다, 부탁드립니다, 해줘, 해주세요, 그렇게해줘, 그렇게해주세요, 오케이, ok",
            no="아니, 아니요, 아니오, 아뇨, 아닙니다, 싫어, 싫어요, 안돼, 안돼요, 안됩니다, 하지마, 하지마요, 하지마세요, "
            "그만, 멈춰, 됐어, 됐어요, 필요없어, 필요없어요, 필요없습니다",
            doubt="몰라, 몰라요, 모르겠어, 모르겠어요, 모르겠습니다, 글쎄, 글쎄요, 아마, 아마도, 괜찮아, 괜찮아요, "
            "괜찮습니다, 취소, 취소해, 취소해줘, 취소해주세요",
            around="감사합니다, 고마워, 고마워요, 고맙습니다, 제발",
            fillers="음, 어, 저, 저기, 그, 아",
        ),
    }
)
"""Languages whose words run together, or that recognizers write with spaces in different places; read without any."""
