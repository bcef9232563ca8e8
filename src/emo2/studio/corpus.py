"""What the studio's voices say: made-up sentences in several languages, grown from small grammars.

Everything here was written for this project; nothing is quoted.  English grows without end from slots; the other
languages are there for their sounds.
"""

from __future__ import annotations

import numpy as np

_WHO = (
    "my mother", "the old baker", "a tall woman", "the boy next door", "our neighbour", "every teacher",
    "the band", "a small brown bear", "the pilot", "my best friend", "nobody", "the whole family",
    "a farmer from the valley", "that clever dog", "the people upstairs", "someone important",
    "the man with the umbrella", "our team", "the mayor", "both of my brothers",
)  # fmt: skip
_DID = (
    "bought", "wanted to open", "forgot about", "built", "was thinking of", "brought home", "painted",
    "would never move", "showed me", "carefully wrapped", "dropped", "found", "promised to fix",
    "gave away", "loves", "pushed over", "jumped over", "put away", "measured", "happily shared",
)  # fmt: skip
_WHAT = (
    "a big blue boat", "the first map of the island", "five warm loaves of bread", "an empty bottle",
    "the paper on the table", "a very long letter", "the piano", "some purple flowers", "the kitchen window",
    "two enormous pumpkins", "a beautiful old lamp", "the only book about music", "thirty-three maps",
    "the wooden bridge", "a cup of coffee", "everything in the room", "the problem", "that awful hat",
    "a package from Vienna", "half of the money",
)  # fmt: skip
_WHEN = (
    "last summer", "before the storm came", "on a Friday afternoon", "in the middle of the night",
    "without asking anybody", "again and again", "for the very first time", "when I was seven",
    "because it was free", "although it was raining", "at the top of the mountain", "as fast as possible",
    "with both hands", "by the river", "every single morning", "from far above",
)  # fmt: skip
_LEAD = (
    "You know,", "Well,", "Believe me,", "To be honest,", "Imagine this:", "Look,", "First of all,",
    "Surprisingly,", "And then,", "So,", "In other words,", "Of course,", "Maybe", "I think",
)  # fmt: skip
_PLAIN = (
    "What a wonderful view!", "Why would anybody do that?", "Please come in and sit down.",
    "I am not sure about this at all.", "Give me five more minutes.", "That is exactly what I mean.",
    "How much is it? Too much.", "No. Absolutely not.", "Yes, yes, a thousand times yes!",
    "We have three choices: stay, leave, or wait.", "Oh my, what happened here?",
    "On the one hand it is cheap, on the other hand it will break.", "Thank you very much, everybody.",
    "Up and up and up it went, until we could not see it any more.", "Stop. Listen. Do you hear that?",
    "It was this big, and I could not move it by myself.", "Let me show you how it works.",
    "Remember: push before you pull.", "My name is not important.", "From here to there it is a mile.",
    "Whoever moves first will lose.", "She sells warm apple pie and strong coffee.",
    "Peter, Bob and Mary popped a bubble.", "Five foxes fought over very few vegetables.",
    "The weather changes every hour, and so do my plans.", "We were wrong about almost everything.",
    "Who knew that you would choose blue shoes?", "The moon moves slowly over the roof.",
    "Open your mouth and say ah.", "Nine, eight, seven, six, five, four, three, two, one.",
    "Chew it, judge it, and share it with the others.", "These three thieves breathe through their teeth.",
)  # fmt: skip

OTHER_LANGUAGES: dict[str, tuple[str, ...]] = {
    "de": (
        "Guten Morgen, mein Freund, hast du gut geschlafen?", "Wir müssen über das Problem sprechen.",
        "Meine Mutter bäckt am Montag immer Brot.", "Das ist doch überhaupt nicht möglich!",
        "Fünf Bücher und ein blauer Ball liegen auf dem Boden.", "Zuerst hören wir zu, dann reden wir.",
        "Er öffnete vorsichtig die Tür und sah in die Küche.", "Warum fragst du mich das jetzt?",
        "Am Ende war alles viel besser, als wir gedacht hatten.", "Ich möchte bitte einen Kaffee.",
    ),
    "fr": (
        "Bonjour à tous, je suis heureux de vous voir.", "Il y avait un petit bateau bleu sur la mer.",
        "Mon père préfère le pain et le beurre.", "Pourquoi pas ? Nous avons tout notre temps.",
        "La lune monte doucement au-dessus du pont.", "Je voudrais parler de musique avec vous.",
    ),
    "es": (
        "Buenos días, me llamo Pablo y vivo en Bilbao.", "La abuela prepara una sopa muy buena.",
        "No puedo creer que haya pasado tanto tiempo.", "Primero vamos al mercado y después comemos.",
        "El perro blanco duerme debajo de la mesa.", "¿Por qué no me lo dijiste antes?",
    ),
    "it": (
        "Buongiorno, oggi parliamo di una cosa bella.", "La bambina mangia pane e marmellata.",
        "Non abbiamo più tempo, dobbiamo partire subito.", "Il vecchio ponte porta alla piazza.",
    ),
    "cmn-latn-pinyin": (
        "ni3 hao3 wo3 de5 peng2 you5 men5", "jin1 tian1 tian1 qi4 fei1 chang2 hao3",
        "wo3 ma1 ma5 mai3 le5 wu3 ben3 shu1", "qing3 ni3 man4 man4 shuo1 wo3 mei2 ting1 dong3",
        "ta1 bu4 xiang3 qu4 bei3 jing1 gong1 zuo4", "zhe4 ge4 wen4 ti2 zen3 me5 ban4",
    ),
    "ja": (
        "おはよう ございます。 きょうは いい てんき です。", "ぼくは みどりの ほんを かいました。",
        "ちょっと まって ください。 もう いちど いいます。", "ありがとう ございました。",
    ),
    "pt": (
        "Bom dia, meu amigo, tudo bem com você?", "A minha mãe comprou um barco azul.",
        "Primeiro falamos, depois comemos um bom bolo.",
    ),
    "pl": (
        "Dzień dobry, bardzo mi miło pana poznać.", "Moja mama kupiła pięć książek.",
        "Proszę powiedzieć to jeszcze raz, powoli.",
    ),
    "hi": ("नमस्ते, मेरा नाम मोहन है।", "आज मौसम बहुत अच्छा है, बाहर चलो।"),
    "ru": ("Доброе утро, мой друг, как дела?", "Мама мыла окно, а папа пил кофе."),
}  # fmt: skip


def _english(rng: np.random.Generator) -> str:
    if rng.random() < 0.3:
        return str(rng.choice(_PLAIN))
    who, did, what, when = (str(rng.choice(slot)) for slot in (_WHO, _DID, _WHAT, _WHEN))
    sentence = f"{who} {did} {what}"
    if rng.random() < 0.7:
        sentence = f"{sentence} {when}" if rng.random() < 0.7 else f"{when}, {sentence}"
    if rng.random() < 0.35:
        sentence = f"{rng.choice(_LEAD)} {sentence}"
    end = str(rng.choice((".", ".", ".", "!", "?")))
    return sentence[0].upper() + sentence[1:] + end


def write(seed: int, *, english_share: float = 0.6) -> tuple[str, str]:
    """A text of one to four sentences, and its language as espeak-ng names it."""
    rng = np.random.default_rng((seed, 13))
    sentences = int(rng.integers(1, 5))
    if rng.random() < english_share:
        language = str(rng.choice(("en-us", "en-us", "en-gb-x-rp", "en-gb-scotland")))
        return " ".join(_english(rng) for _ in range(sentences)), language
    language = str(rng.choice(list(OTHER_LANGUAGES)))
    lines = rng.choice(OTHER_LANGUAGES[language], size=sentences)
    return " ".join(str(line) for line in lines), language
