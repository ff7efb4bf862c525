"""What the Clips part says, in both languages; its script reads the same table."""

from __future__ import annotations

from collections.abc import Mapping

from siglip_study.report.language import Text

#: Key → words. ``{…}`` are filled in by the template or the script.
LABELS: dict[str, Text] = {
    "intro": Text(
        "What each projector wrote. Clips are picked by a hash of their ids, never by a score.",
        "각 프로젝터가 쓴 자막입니다. 클립은 점수와 무관하게 ID의 해시값으로 고릅니다.",
    ),
    "cut": Text(
        "{shown} of {total} clips are in this page, to keep it small; all captions are in "
        "tables/clips.csv.",
        "파일 크기를 줄이기 위해 클립 {total}개 중 {shown}개만 담았습니다. 전체 자막은 "
        "tables/clips.csv에 있습니다.",
    ),
    "pictured": Text("{pictured} have pictures.", "그림은 {pictured}개에 있습니다."),
    "no_script": Text(
        "Moving on, searching and sorting need JavaScript; without it three clips are shown. All "
        "captions are in tables/clips.csv.",
        "다른 클립 보기, 검색, 정렬에는 JavaScript가 필요합니다. 없으면 세 클립만 표시됩니다. "
        "전체 자막은 tables/clips.csv에 있습니다.",
    ),
    "too_old": Text(
        "This browser cannot unpack the other clips (it lacks DecompressionStream).",
        "이 브라우저에서는 나머지 클립을 펼칠 수 없습니다(DecompressionStream 미지원).",
    ),
    "position": Text("Clips {from}–{to} of {n}", "클립 {n}개 중 {from}–{to}"),
    "position_one": Text("Clip {from} of {n}", "클립 {n}개 중 {from}번째"),
    "none": Text("No clip matches.", "조건에 맞는 클립이 없습니다."),
    "reset": Text("Reset", "초기화"),
    "previous": Text("Previous clips", "이전 클립"),
    "next": Text("Next clips", "다음 클립"),
    "play": Text("Play", "재생"),
    "pause": Text("Pause", "정지"),
    "filters": Text("Choice of clips", "클립 고르기"),
    "search": Text("Search", "검색"),
    "search_hint": Text("id, category or words", "ID, 분류 또는 단어"),
    "frames": Text("{n} frames of {id}, in order of time", "{id}의 프레임 {n}장(시간순)"),
    "no_picture": Text("No picture: beyond the page's size.", "그림 없음: 파일 크기 제한"),
    "link": Text("Link to this clip", "이 클립의 링크"),
    # What can be chosen.
    "sort": Text("Order", "정렬"),
    "sort.hash": Text("by hash of the id", "ID 해시순"),
    "sort.spread": Text("projectors disagree most", "프로젝터 간 차이가 큰 순"),
    "sort.low": Text("lowest margin first", "마진이 낮은 순"),
    "sort.high": Text("highest margin first", "마진이 높은 순"),
    "sort.misled": Text("score misled first", "점수가 틀린 자막을 고른 순"),
    "by": Text("Projector", "프로젝터"),
    "by.all": Text("all", "전체"),
    "is": Text("Caption", "자막"),
    "is.any": Text("any", "전체"),
    "is.elsewhere": Text("fits other clips as well", "다른 클립에도 맞는 자막"),
    "is.below": Text("below nearest training clip", "최근접 학습 클립보다 낮음"),
    "is.repeated": Text("said of another clip too", "다른 클립과 같은 자막"),
    "is.truncated": Text("cut off", "중간에 잘림"),
    "is.empty": Text("empty", "빈 자막"),
    "category": Text("Category", "분류"),
    "category.all": Text("all", "전체"),
    "fact": Text("Facts", "사실"),
    "fact.any": Text("any", "전체"),
    "fact.right": Text("all right", "모두 맞음"),
    "fact.wrong": Text("wrong: {name}", "틀림: {name}"),
    "seed": Text("Seed", "시드"),
    "mark": Text("Mark words", "단어 표시"),
    "mark.seeds": Text("that other seeds do not say", "다른 시드에는 없는 단어"),
    "mark.usual": Text("said of most clips", "대부분의 클립에 쓴 단어"),
    "mark.nothing": Text("none", "표시 안 함"),
    # Of one caption.
    "human": Text("human", "사람"),
    "retrieval": Text("nearest training clip", "최근접 학습 클립"),
    "hot": Text("run made to collapse", "일부러 붕괴시킨 실행"),
    "margin": Text("margin", "마진"),
    "empty": Text("(empty caption)", "(빈 자막)"),
    "absent": Text("(no caption)", "(자막 없음)"),
    "truncated": Text("cut off", "중간에 잘림"),
    "repeated": Text("same for another clip", "다른 클립과 같은 자막"),
    "misleading": Text("highest margin, more facts wrong", "마진은 최고, 사실은 더 많이 틀림"),
    "facts": Text("{right} of {all} facts", "사실 {all}개 중 {right}개"),
    "said": Text("{name}: “{said}”, not “{true}”", "{name}: ‘{said}’(실제 ‘{true}’)"),
    "unsaid": Text("{name}: not said", "{name}: 언급 없음"),
}

#: Names of the demo's facts.
ATTRIBUTES: dict[str, Text] = {
    "thing": Text("thing", "사물"),
    "colour": Text("colour", "색"),
    "size": Text("size", "크기"),
    "count": Text("count", "수"),
    "motion": Text("motion", "움직임"),
    "place": Text("place", "장소"),
    "weather": Text("weather", "날씨"),
    "camera": Text("camera", "카메라"),
}


def value_labels(attributes: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Text]]:
    """Attribute → value → its name: the demo's own word in Korean."""
    from siglip_study.demo.lexicon import SYNONYMS

    return {
        name: {
            value: Text(value.replace("_", " "), SYNONYMS[name][value][0]) for value in values
        }
        for name, values in attributes.items()
    }
