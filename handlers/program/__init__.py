"""What a program of the site says: an executable or a container, files in, an answer out (`handlers/README.md`).

The program is confined and is no part of this process; its words and objects are checked before they are an answer.
`running.py` starts it, `inputs.py` writes its images, `answer.py` reads its files, `results.py` makes a result of them.
"""

from ainode.handlers import algorithm
from ainode.handlers.described.choosing import looked_at, selected
from ainode.handlers.program.answer import answer_in
from ainode.handlers.program.choosing import inverted_refusal, refusal_of, uniform_refusal
from ainode.handlers.program.description import Description, read_description
from ainode.handlers.program.findings import Seen
from ainode.handlers.program.inputs import give
from ainode.handlers.program.results import Run, parameters_of, result_of
from ainode.handlers.program.running import Runner
from ainode.models.card import Limits
from ainode.node.domain import OutOfScope, Result, Selection, Study, SyntheticStudy
from ainode.node.imaging.geometry import Stack, stack
from ainode.node.reading.attachments import MOST_BYTES
from ainode.node.reading.described import DescribedModel
from ainode.node.reading.weights import ModelEnvironment
from ainode.node.reading.workplace import workplace


class Program:
    """The handler of a site's program."""

    packages: tuple[str, ...] = ()

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        self._environment, self._model = environment, model
        self._description: Description = read_description(model)
        self._runner = Runner(environment, model, self._description.start)

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return self._model.name

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self._model.entry.version

    @property
    def limits(self) -> Limits:
        """Return what the description says that the program is not for."""
        return Limits(self._description.not_for, ())

    def weights(self) -> tuple[str, ...]:
        """Return the name of the model, which is that of its files."""
        return (self.name,)

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the images, or the slices of the stack, that the description takes, by their headers."""
        return selected(study, self._description.takes, refusal_of)

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection, unless it is a CT whose values or sizes are no CT's, or its images show nothing."""
        if self._description.takes.is_stack:
            return looked_at(selection, self._description.takes)
        return uniform_refusal(selection.instances) or selection

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return what the program says of the selection.

        Raises: HandlerError if the program fails, is ended at a limit, or its answer is not what was agreed.
        """
        start = self._description.start
        slices = self._slices(selection)
        if isinstance(slices, OutOfScope):
            return slices
        if slices and start.input_form == "nifti" and (refusal := inverted_refusal(selection.instances)):
            return refusal
        with workplace() as place:
            task = {"model": self.name, "version": self.version}
            inputs = give(selection, slices, start, place.inputs, task)
            identifier = self._runner.run(place)
            answer = answer_in(place.answer, (instance.path for instance in inputs.images.values()), MOST_BYTES)
            parameters = parameters_of(answer, self._description, identifier)
            made_by = algorithm(self, self._environment.weights, weights=self.weights(), parameters=parameters)
            run = Run(selection, Seen(inputs.images, slices), place.answer)
            return result_of(answer, run, self._description, made_by)

    def prepare(self) -> tuple[object, ...]:
        """Return the image of the program, loaded; or its files, compared with the description."""
        return (self._runner.program(),)

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a synthetic study that the description takes."""
        from ainode.handlers.described.examples import example  # noqa: PLC0415 - brings phantoms along

        return example(self._description.takes, seed)

    def _slices(self, selection: Selection) -> Stack | OutOfScope | None:
        """Return the images as slices; None where they are no series of slices, or why a file cannot hold them."""
        if len(selection.series) != 1:
            return None
        stacked = stack(selection.instances)
        if isinstance(stacked, OutOfScope) and self._description.start.input_form != "nifti":
            return None
        return stacked


def build(environment: ModelEnvironment, model: DescribedModel) -> Program:
    """Return the handler of a described program."""
    return Program(environment, model)
