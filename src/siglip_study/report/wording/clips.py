"""What the Clips part says, in both languages; its script reads the same table."""

from __future__ import annotations

from siglip_study.report.language import Text

#: Key → words. ``{…}`` are filled in by the template or the script.
LABELS: dict[str, Text] = {
    "clips.intro": Text(
        "What each projector wrote, under the caption of a person. The first clips are picked by "
        "a hash of their ids, not by a score. Underlined: words that it does not say of another "
        "clip.",
        "사람이 쓴 캡션 아래에 프로젝터마다 쓴 캡션을 놓았습니다. 처음 보이는 영상은 점수와 "
        "무관하게 ID의 해시로 골랐습니다. 밑줄은 다른 영상에는 쓰지 않은 단어입니다.",
    ),
    # Around the glossary's word for it.
    "clips.before_margin": Text("The figure beside a caption is its", "캡션 옆의 수치는"),
    "clips.after_margin": Text(".", "입니다."),
    "clips.cut": Text(
        "{shown} of {total} clips are in this page, to keep it small; all captions are in "
        "tables/clips.csv.",
        "파일 크기를 줄이기 위해 영상 {total}개 중 {shown}개만 담았습니다. 전체 캡션은 "
        "tables/clips.csv에 있습니다.",
    ),
    "clips.pictured": Text("{pictured} have pictures.", "그림은 {pictured}개에 있습니다."),
    "clips.no_script": Text(
        "Moving on, searching and sorting need JavaScript; without it three clips are shown. All "
        "captions are in tables/clips.csv.",
        "다른 영상 보기, 검색, 정렬에는 JavaScript가 필요합니다. 없으면 세 영상만 표시됩니다. "
        "전체 캡션은 tables/clips.csv에 있습니다.",
    ),
    "clips.too_old": Text(
        "This browser cannot unpack the other clips (it lacks DecompressionStream).",
        "이 브라우저에서는 나머지 영상을 펼칠 수 없습니다(DecompressionStream 미지원).",
    ),
    "clips.position": Text("Clips {from}–{to} of {n}", "영상 {n}개 중 {from}–{to}"),
    "clips.position_one": Text("Clip {from} of {n}", "영상 {n}개 중 {from}번째"),
    "clips.none": Text("No clip matches.", "조건에 맞는 영상이 없습니다."),
    "clips.reset": Text("Reset", "초기화"),
    "clips.previous": Text("Previous clips", "이전 영상"),
    "clips.next": Text("Next clips", "다음 영상"),
    "clips.play": Text("Play", "재생"),
    "clips.pause": Text("Pause", "정지"),
    "clips.filters": Text("Search and choose", "검색과 조건"),
    "clips.search": Text("Search", "검색"),
    "clips.search_hint": Text("id, category or words", "ID, 범주 또는 단어"),
    "clips.frames": Text("{n} frames of {id}, in order of time", "{id}의 프레임 {n}장(시간순)"),
    "clips.no_picture": Text("No picture: beyond the page's size.", "그림 없음: 파일 크기 제한"),
    # What can be chosen.
    "clips.sort": Text("Order", "정렬"),
    "clips.sort.hash": Text("by hash of the id", "ID 해시순"),
    "clips.sort.spread": Text("projectors disagree most", "프로젝터 간 차이가 큰 순"),
    "clips.sort.low": Text("lowest margin first", "마진이 낮은 순"),
    "clips.sort.high": Text("highest margin first", "마진이 높은 순"),
    "clips.sort.misled": Text("score misled first", "점수가 틀린 캡션을 고른 순"),
    "clips.by": Text("Projector", "프로젝터"),
    "clips.by.all": Text("all", "전체"),
    "clips.is": Text("Caption", "캡션"),
    "clips.is.any": Text("any", "전체"),
    "clips.is.elsewhere": Text("fits other clips as well", "다른 영상에도 맞는 캡션"),
    "clips.is.below": Text("below nearest training caption", "가장 비슷한 학습 캡션보다 낮음"),
    "clips.is.repeated": Text("said of another clip too", "다른 영상과 같은 캡션"),
    "clips.is.truncated": Text("cut off", "중간에 잘림"),
    "clips.is.empty": Text("empty", "빈 캡션"),
    "clips.category": Text("Category", "범주"),
    "clips.category.all": Text("all", "전체"),
    "clips.fact": Text("Facts", "사실"),
    "clips.fact.any": Text("any", "전체"),
    "clips.fact.right": Text("all right", "모두 맞음"),
    "clips.fact.wrong": Text("wrong: {name}", "틀림: {name}"),
    "clips.seed": Text("Seed", "시드"),
    "clips.mark": Text("Mark words", "단어 표시"),
    "clips.mark.shuffled": Text("unlike a shuffled clip", "뒤섞은 영상과 다른 단어"),
    "clips.mark.seeds": Text("not in other seeds", "다른 시드에 없는 단어"),
    "clips.mark.usual": Text("said of most clips", "대부분의 영상에 쓴 단어"),
    "clips.mark.nothing": Text("none", "표시 안 함"),
    # Of one caption.
    "clips.human": Text("human", "사람"),
    "clips.margin": Text("margin", "마진"),
    "clips.empty": Text("(empty caption)", "(빈 캡션)"),
    "clips.absent": Text("(no caption)", "(캡션 없음)"),
    "clips.truncated": Text("cut off", "중간에 잘림"),
    "clips.repeated": Text("same for another clip", "다른 영상과 같은 캡션"),
    "clips.misleading": Text(
        "highest margin, more facts wrong", "마진은 최고, 사실은 더 많이 틀림"
    ),
    "clips.facts": Text("{right} of {all} facts", "사실 {all}개 중 {right}개"),
    "clips.said": Text("{name}: “{said}”, not “{true}”", "{name}: ‘{said}’(실제 ‘{true}’)"),
    "clips.unsaid": Text("{name}: not said", "{name}: 언급 없음"),
    # The demo's facts.
    "clips.fact.thing": Text("thing", "사물"),
    "clips.fact.colour": Text("colour", "색"),
    "clips.fact.size": Text("size", "크기"),
    "clips.fact.count": Text("count", "수"),
    "clips.fact.motion": Text("motion", "움직임"),
    "clips.fact.place": Text("place", "장소"),
    "clips.fact.weather": Text("weather", "날씨"),
    "clips.fact.camera": Text("camera", "카메라"),
}
