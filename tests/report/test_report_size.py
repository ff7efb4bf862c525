"""A hundred runs of a thousand clips still make one small page."""

from siglip_study.report.gallery import GallerySettings


def test_large_study_fits_in_five_megabytes(tmp_path, make_study):
    study = make_study(
        tmp_path, clips=1000, seeds=2, rates=tuple(1e-4 * k for k in range(1, 12)), budgets=(1, 2),
        steps=400, words=60,
    )  # fmt: skip
    assert sum(map(len, study.cells.values())) >= 100
    html = study.report(gallery=GallerySettings(frames=lambda clip: study.pictures * 2))
    assert 2_000_000 < len(html.encode()) <= 5_000_000
    assert '"total":1000' in html and '"shown":1000' not in html
