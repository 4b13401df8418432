"""What is where on the page, and which button does what; the work lies in `scoring` and `generating`.

Gradio, from the extra ``app``, is imported when the page is built.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from wmreward.app import words
from wmreward.app.generating import Wish, examples, generate
from wmreward.app.limits import LONGEST_PROMPT, MOST_CLIPS
from wmreward.app.scoring import about, score, write_curve, write_maps
from wmreward.commands.kinds import LARGEST_SEED
from wmreward.generation.steering_flags import GUIDANCE_SCALE
from wmreward.video_io import IMAGE_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    import gradio

_EXAMPLES = Path(__file__).parents[2] / "example"
_TWINS = ("balls_possible.mp4", "balls_impossible.mp4")

_ONE_AT_A_TIME: dict[str, Any] = {
    "concurrency_id": "work",
    "concurrency_limit": 1,
    "api_visibility": "private",
}
"""All work waits in one queue: two models at work would only slow each other down."""

_RESULT: dict[str, Any] = {"visible": False, "interactive": False, "show_label": False}
_PLAYED: dict[str, Any] = {"autoplay": True, "loop": True, "buttons": ["download"]}


def theme() -> gradio.Theme:
    """Fonts of the system, so that none is fetched."""
    import gradio as gr

    plain = gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return plain.set(
        body_text_color_subdued="*neutral_500",  # the theme's own is too pale to be read
        block_info_text_color="*neutral_500",
    )


def build_page(
    models: Sequence[str], device: str, folder: Path, debug: bool = False
) -> gradio.Blocks:
    """The page.

    Args:
        models: World models to choose from, the first one chosen.
        device: Where they run.
        folder: Where results are written.
        debug: Print the traceback of errors.
    """
    import gradio as gr

    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(words.INTRODUCTION, elem_classes="wm-head")
        with gr.Tab("Score clips"):
            _score_tab(models, device, folder, debug)
        with gr.Tab("Generate, plain beside guided"):
            _generate_tab(device, folder, debug)
    return page


def _score_tab(models: Sequence[str], device: str, folder: Path, debug: bool) -> None:
    import gradio as gr

    _progress = gr.Progress()
    with gr.Row():
        with gr.Column(scale=2):
            gr.Markdown(words.SCORE_HINT, elem_classes="wm-hint")
            files = gr.File(
                label="Clips",
                file_count="multiple",
                file_types=sorted(VIDEO_SUFFIXES),
                elem_id="clips",
                height=170,
            )
            model = gr.Dropdown(
                list(models), value=models[0], label="World model", info=words.MODEL_HINT
            )
            with gr.Row():
                if twins := [path for name in _TWINS if (path := _EXAMPLES / name).is_file()]:
                    button = gr.Button("Example clips", elem_id="example_clips")
                    button.click(
                        lambda: list(map(str, twins)), None, files, api_visibility="private"
                    )
                start = gr.Button("Score", variant="primary", elem_id="score")
        with gr.Column(scale=3):
            verdict = gr.HTML(words.notes([words.NO_SCORE_YET]), elem_id="verdict", min_height=80)
            curve = gr.Image(
                **_RESULT,
                type="filepath",
                buttons=["download", "fullscreen"],
                elem_id="curve",
            )
    maps: list[gradio.Video] = []
    for _ in range(MOST_CLIPS // 2):
        with gr.Row():
            maps += [gr.Video(**_RESULT, **_PLAYED) for _ in range(2)]
    shown = [verdict, curve, *maps]

    def on_score(
        clips: list[str] | None, name: str, progress: gr.Progress = _progress
    ) -> list[Any]:
        def work() -> list[Any]:
            count = len(clips or [])

            def at(place: int) -> None:
                progress(place / (2 * count), f"scoring clip {place + 1} of {count}")

            progress(0, "loading the model")
            ranking = score([Path(clip) for clip in clips or []], name, device, on_clip=at)
            if not ranking.scored:
                return [words.verdict(ranking), *_hidden(1 + len(maps))]
            progress(0.5, "drawing")
            own = Path(mkdtemp(dir=folder))
            drawn = write_maps(
                ranking.scored,
                own,
                on_map=lambda place: progress(0.5 + place / (2 * count), "drawing the maps"),
            )
            videos = [
                gr.Video(
                    value=str(path), label=f"{one.label}: the clip beside its map", visible=True
                )
                for path, one in zip(drawn, ranking.scored, strict=True)
            ]
            picture = gr.Image(value=str(write_curve(ranking.scored, own)), visible=True)
            rest = _hidden(len(maps) - len(videos))
            return [words.verdict(ranking), picture, *videos, *rest]

        return _or_trouble(work, len(shown) - 1, debug)

    start.click(on_score, [files, model], shown, **_ONE_AT_A_TIME)


def _generate_tab(device: str, folder: Path, debug: bool) -> None:
    import gradio as gr

    _progress = gr.Progress()
    with gr.Row():
        with gr.Column(scale=2):
            gr.Markdown(words.GENERATE_HINT, elem_classes="wm-hint")
            prompt = gr.Textbox(
                label="What the video shows",
                value="a red ball on the left falls and bounces on the floor",
                max_length=LONGEST_PROMPT,
                lines=2,
                elem_id="prompt",
            )
            start = gr.File(
                label="Beginning (may be left out)",
                file_types=sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES),
                height=120,
                elem_id="beginning",
            )
            gr.Markdown(words.START_HINT, elem_classes="wm-hint")
            if begins := examples():
                gr.Examples(
                    [[one.prompt, str(one.start)] for one in begins],
                    [prompt, start],
                    label="Beginnings to try",
                    example_labels=[one.start.stem.replace("_", " ") for one in begins],
                    api_visibility="private",
                )
            scale = gr.Slider(
                *(0.01, 0.5), value=GUIDANCE_SCALE, step=0.01, label="Strength of the guidance"
            )
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
            button = gr.Button("Generate", variant="primary", elem_id="generate")
        with gr.Column(scale=3):
            verdict = gr.HTML(words.notes([words.NO_VIDEO_YET]), elem_id="compared", min_height=80)
            video = gr.Video(**_RESULT, **_PLAYED, elem_id="pair")

    def on_generate(
        text: str,
        begin: str | None,
        number: float,
        strength: float,
        progress: gr.Progress = _progress,
    ) -> list[Any]:
        def work() -> list[Any]:
            progress(0, "loading the generator")
            wish = Wish(
                prompt=text,
                start=Path(begin) if begin else None,
                seed=int(number or 0),
                scale=strength,
            )
            pair = generate(wish, Path(mkdtemp(dir=folder)), device, on_step=progress)
            return [words.compared(pair), gr.Video(value=str(pair.video), visible=True)]

        return _or_trouble(work, 1, debug)

    button.click(on_generate, [prompt, start, seed, scale], [verdict, video], **_ONE_AT_A_TIME)


def _or_trouble(work: Callable[[], list[Any]], others: int, debug: bool) -> list[Any]:
    """What ``work`` gives; else one line about what went wrong, and ``others`` hidden."""
    try:
        return work()
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        return [words.trouble(about(error)), *_hidden(others)]


def _hidden(count: int) -> list[Any]:
    import gradio as gr

    return [gr.update(value=None, visible=False) for _ in range(count)]
