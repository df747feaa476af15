"""Which picture shows what, against the benchmark's own labels."""

from kvtp.data.moments import Pictures, moments


def test_pictures_show_what_the_labels_say(data, tiny) -> None:
    """A question about an object's colour has its key label where the picture shows that object, and only there."""
    scenes = data("scenes", videos=2)
    benchmark = scenes.train
    asked = {
        question.cluster: question
        for question in map(benchmark.__getitem__, range(len(benchmark)))
        if question.groups["kind"] == "colour"
    }
    found = list(moments(benchmark, benchmark.films, scenes.frames))
    assert len(found) == len(benchmark.films)
    for film, (frames, events) in zip(benchmark.films, found, strict=True):
        shape = asked[film.name].text.removeprefix("What colour is the ").rstrip("?")
        clips = [label == 5 for label in asked[film.name].relevance]
        seen = [clips[int(time / frames.duration * len(clips))] for time in frames.timestamps.tolist()]
        assert [event is not None and event.shape == shape for event in events] == seen
        assert any(seen)


def test_pictures_of_a_split_come_with_every_attribute(data, tiny) -> None:
    scenes = data("scenes", videos=2)
    pictures = Pictures.of(scenes.train, scenes.frames, tiny())
    shown = sum(
        event is not None for _, events in moments(scenes.train, scenes.train.films, scenes.frames) for event in events
    )
    assert len(pictures.tokens) == shown
    assert {name: len(labels) for name, labels in pictures.labels.items()} == dict.fromkeys(
        ("colour", "shape", "place"), shown
    )
    assert pictures.tokens.shape[1] == 64 * tiny().config.vision_config.hidden_size
