"""Korean words and inflection for the demo's captions; one place for both writing and parsing."""

from __future__ import annotations

from dataclasses import dataclass

_HANGUL_FIRST, _HANGUL_LAST, _FINALS = 0xAC00, 0xD7A3, 28
_FINAL_N, _FINAL_L, _FINAL_B = 4, 8, 17


def final_consonant(word: str) -> int:
    """Index of the final consonant of the last syllable (0: none); NFC Hangul only."""
    code = ord(word[-1])
    if not _HANGUL_FIRST <= code <= _HANGUL_LAST:
        raise ValueError(f"{word!r} does not end in a Hangul syllable")
    return (code - _HANGUL_FIRST) % _FINALS


def josa(word: str, pair: str) -> str:
    """``word`` with the right particle of ``pair``: "은/는", "이/가", "을/를" or "으로/로".

    The first is for words that end in a consonant; ㄹ counts as a vowel before 으로/로.
    """
    closed, open_ = pair.split("/")
    final = final_consonant(word)
    is_closed = final != 0 and not (pair == "으로/로" and final == _FINAL_L)
    return word + (closed if is_closed else open_)


@dataclass(frozen=True)
class Verb:
    """A regular verb by its stem; ``yo`` is given, since its vowel contraction varies by stem."""

    stem: str
    yo: str

    def _with_final(self, final: int) -> str:
        """The stem with this final consonant if it ends in a vowel."""
        open_ = final_consonant(self.stem) == 0
        return self.stem[:-1] + chr(ord(self.stem[-1]) + (final if open_ else 0))

    @property
    def plain(self) -> str:
        """움직인다, 있다."""
        return self._with_final(_FINAL_N) + "다"

    @property
    def polite(self) -> str:
        """움직입니다, 있습니다."""
        return self._with_final(_FINAL_B) + ("습니다" if final_consonant(self.stem) else "니다")

    @property
    def adnominal(self) -> str:
        """움직이는, 있는."""
        return self.stem + "는"

    @property
    def also(self) -> str:
        """움직이고, 있고."""
        return self.stem + "고"

    @property
    def progressive(self) -> str:
        """움직이고 있다; a verb that ends in 있 stays as it is."""
        return self.plain if self.stem.endswith("있") else self.stem + "고 있다"


#: attribute → value → noun, adjective or adverb forms that state it; the first names the value.
#: The parser reads exactly these (with particles) and the verbs' stems below.
SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "thing": {
        "car": ("자동차", "승용차"),
        "ball": ("공", "둥근 공"),
        "fish": ("물고기",),
        "bird": ("새", "날개 편 새"),
        "boat": ("배", "돛단배"),
        "house": ("집", "주택"),
        "tree": ("나무", "소나무"),
        "star": ("별", "오각별"),
    },
    "colour": {
        "red": ("빨간", "붉은", "빨간색", "빨강"),
        "yellow": ("노란", "노란색", "노랑"),
        "green": ("초록", "초록색", "녹색"),
        "blue": ("파란", "파란색", "파랑"),
        "purple": ("보라", "보라색", "보랏빛"),
        "white": ("하얀", "흰", "흰색"),
    },
    "size": {"small": ("작은", "조그만", "자그마한"), "large": ("큰", "커다란", "큼직한")},
    "count": {"1": ("하나", "한"), "2": ("둘", "두"), "3": ("셋", "세")},
    "motion": {
        "still": ("정지", "가만히", "제자리", "제자리에", "멈춰"),
        "left": ("왼쪽", "왼편", "좌측"),
        "right": ("오른쪽", "오른편", "우측"),
        "up": ("위쪽", "위로"),
        "down": ("아래쪽", "아래로"),
    },
    "place": {
        "sea": ("바다", "바닷가"),
        "mountain": ("산", "산속"),
        "city": ("도시", "도심"),
        "field": ("들판", "초원"),
    },
    "weather": {
        "clear": ("맑음", "맑은", "맑다", "화창한"),
        "rain": ("비",),
        "snow": ("눈",),
        "night": ("밤",),
    },
    "camera": {"static": ("고정",), "zoom_in": ("확대",), "zoom_out": ("축소",)},
}

COUNTERS: dict[str, str] = {
    "car": "대", "ball": "개", "fish": "마리", "bird": "마리", "boat": "척", "house": "채",
    "tree": "그루", "star": "개",
}  # fmt: skip

#: value → forms put before a noun.
COLOUR_FORMS: dict[str, tuple[str, ...]] = {
    "red": ("빨간", "붉은", "빨간색"),
    "yellow": ("노란", "노란색"),
    "green": ("초록색", "녹색", "초록"),
    "blue": ("파란", "파란색"),
    "purple": ("보라색", "보랏빛"),
    "white": ("하얀", "흰", "흰색"),
}

_GO = [Verb("움직이", "움직여요"), Verb("이동하", "이동해요")]
_PASS = [*_GO, Verb("나아가", "나아가요"), Verb("지나가", "지나가요")]
_RISE = [*_GO, Verb("올라가", "올라가요"), Verb("떠오르", "떠올라요")]
_SINK = [*_GO, Verb("내려가", "내려가요"), Verb("내려오", "내려와요")]

#: value → (adverbs, verbs); any adverb goes with any verb.
MOTION_FORMS: dict[str, list[tuple[tuple[str, ...], list[Verb]]]] = {
    "still": [
        (("가만히", "제자리에"), [Verb("있", "있어요"), Verb("머물러 있", "머물러 있어요")]),
        (("제자리에", "그대로"), [Verb("멈춰 있", "멈춰 있어요")]),
    ],
    "left": [(("왼쪽으로", "왼편으로", "좌측으로"), _PASS)],
    "right": [(("오른쪽으로", "오른편으로", "우측으로"), _PASS)],
    "up": [(("위로", "위쪽으로"), _RISE)],
    "down": [(("아래로", "아래쪽으로"), _SINK)],
}

_FIXED = Verb("고정되어 있", "고정되어 있어요")

#: value → (subject, verb with its adverb).
CAMERA_FORMS: dict[str, list[tuple[str, Verb]]] = {
    "static": [("화면", _FIXED), ("카메라", _FIXED)],
    "zoom_in": [
        ("화면", Verb("점점 가까워지", "점점 가까워져요")),
        ("화면", Verb("천천히 확대되", "천천히 확대돼요")),
        ("카메라", Verb("앞으로 다가가", "앞으로 다가가요")),
    ],
    "zoom_out": [
        ("화면", Verb("점점 멀어지", "점점 멀어져요")),
        ("화면", Verb("천천히 축소되", "천천히 축소돼요")),
        ("카메라", Verb("뒤로 물러나", "뒤로 물러나요")),
    ],
}

#: value → (before a place, before 날 or alone as a time).
WEATHER_BEFORE_PLACE: dict[str, tuple[str, ...]] = {
    "clear": ("맑은 날", "화창한", "맑게 갠"),
    "rain": ("비 오는", "비가 내리는", "비 내리는"),
    "snow": ("눈 오는", "눈이 내리는", "눈 내리는"),
    "night": ("어두운 밤", "캄캄한 밤", "밤의"),
}
WEATHER_TIMES: dict[str, tuple[str, ...]] = {
    "clear": ("맑은 날", "화창한 날"),
    "rain": ("비 오는 날", "비가 내리는 날"),
    "snow": ("눈 오는 날", "눈이 내리는 날"),
    "night": ("어두운 밤", "캄캄한 밤"),
}


@dataclass(frozen=True)
class Clause:
    """A whole clause in its four endings: 비가 내린다 / 내립니다 / 내려요 / 내리고."""

    plain: str
    polite: str
    yo: str
    also: str


def _falls(what: str) -> list[Clause]:
    verbs = (Verb("내리", "내려요"), Verb("오", "와요"))
    return [
        Clause(*(f"{what} {form}" for form in (v.plain, v.polite, v.yo, v.also))) for v in verbs
    ]


WEATHER_CLAUSES: dict[str, list[Clause]] = {
    "clear": [
        Clause("하늘이 맑다", "하늘이 맑습니다", "하늘이 맑아요", "하늘이 맑고"),
        Clause("날씨가 화창하다", "날씨가 화창합니다", "날씨가 화창해요", "날씨가 화창하고"),
    ],
    "rain": _falls("비가"),
    "snow": _falls("눈이"),
    "night": [
        Clause("어두운 밤이다", "어두운 밤입니다", "어두운 밤이에요", "어두운 밤이고"),
        Clause("캄캄한 밤이다", "캄캄한 밤입니다", "캄캄한 밤이에요", "캄캄한 밤이고"),
    ],
}
