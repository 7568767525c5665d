"""What every handler does that reads by a site's `model.toml`: weights, selection, the words on the model."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

from ainode.handlers import algorithm, each_read, grouped, loaded
from ainode.handlers.described.choosing import looked_at, selected
from ainode.handlers.described.description import PICTURE, Description, read_description
from ainode.models.card import Limits
from ainode.models.described.facts import facts
from ainode.models.described.network import PACKAGES, Network, NetworkFile, opened
from ainode.models.described.scaling import Activation, Values
from ainode.models.errors import CheckpointRefused, ModelError, UnusablePicture
from ainode.node.domain import Algorithm, Instance, OutOfScope, Result, Selection, Study, SyntheticStudy, Window
from ainode.node.errors import WeightsError
from ainode.node.reading.described import DESCRIPTION, DescribedModel
from ainode.node.reading.weights import ModelEnvironment

if TYPE_CHECKING:
    from ainode.models.described.placement import Placement

_LONGEST_REASON = 200

Answer = TypeVar("Answer")


class _Named:
    """A network whose faults are told under the name of its model."""

    def __init__(self, network: Network, name: str) -> None:
        self._network, self._name = network, name

    def renew(self) -> None:
        """Begin a study: no answer to it hangs on an earlier one."""
        self._network.renew()

    def __call__(self, inputs: Values, /) -> tuple[Values, ...]:
        """Return the outputs.

        Raises: WeightsError if the network cannot run on the input.
        """
        try:
            return self._network(inputs)
        except (ModelError, RuntimeError, MemoryError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[-1][:_LONGEST_REASON] if lines else type(error).__name__
            raise WeightsError(f"{self._name}: the network cannot run: {reason}") from error

    def maps(self, inputs: Values, /) -> Values | None:
        """Return the activation maps of the network."""
        return self._network.maps(inputs)


class DescribedReading:
    """A site's model as a handler; its network is loaded when it is prepared, else at the first study."""

    reads_bundles = False
    """whether the file may be of a MONAI bundle, which brings its own input"""

    reads_windows = False
    """whether windows may slide over an image that is larger than the network's input"""

    output_keys: tuple[str, ...] = ("name",)
    """the keys of [output] that name outputs of the network"""

    activation: Activation = "none"
    """what makes probabilities of the answers of the network"""

    answer_count = 0
    """the number of answers of a network whose file holds weights alone"""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        self.environment, self.model = environment, model
        self.description: Description = read_description(model)
        self._architecture = self._read_file()
        self.packages = (*PACKAGES[model.format], "scipy")
        self._opened: Network | None = None
        output = self.description.output
        names = (output.text(key, "") for key in self.output_keys)
        self._output_names = tuple(name for name in names if name)
        self.site = output.code_if_given("site")

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return self.model.name

    @property
    def version(self) -> str:
        """Return the version of the model."""
        return self.model.entry.version

    @property
    def limits(self) -> Limits:
        """Return what the description says that the model is not for."""
        return Limits(self.description.not_for, ())

    @property
    def input_text(self) -> str:
        """Return how an image becomes the network's input, in words."""
        return self.description.input.text

    def weights(self) -> tuple[str, ...]:
        """Return the name of the model, which is that of its weights."""
        return (self.model.name,)

    def select(self, study: Study) -> Selection | OutOfScope:
        """Return the images that the description takes, by their headers."""
        return selected(study, self.description.takes)

    def look(self, selection: Selection) -> Selection | OutOfScope:
        """Return the selection, unless it is a CT whose values or sizes are no CT's."""
        return looked_at(selection, self.description.takes)

    def prepare(self) -> tuple[object, ...]:
        """Return the loaded network."""
        return (self.network,)

    @cached_property
    def network(self) -> Network:
        """The network of the model's file, its bytes compared with the description.

        Raises: WeightsError.
        """
        companions = (path.relative_to(self.model.folder).as_posix() for path, _ in self.model.entry.companions)
        file = NetworkFile(
            self.environment.weights.verified(self.name),
            self.model.format,
            self.description.input.shape,
            self._output_names,
            tuple(path for path in companions if path != DESCRIPTION),
            self._architecture,
            self.answer_count,
            self.activation,
            self.description.input.scaling.grays,
        )
        self._opened = _Named(loaded(opened, file, name=self.name, environment=self.environment), self.name)
        return self._opened

    def refuse_second(self, activation: Activation) -> None:
        """Refuse an activation of what the file has made probabilities of already, as far as its bytes tell.

        Whoever opens the network looks at the operators behind each other, of all formats.
        Raises: ConfigError.
        """
        self.activation = activation
        path = self.model.entry.path
        if activation == "none" or path.suffix.lower() not in {".onnx", ".keras"} or not path.is_file():
            return
        with suppress(CheckpointRefused):  # whoever opens the network says it
            if end := facts(path).probable_end(self.description.output.text("name", "")):
                reason = f'the file ends in {end}, so it answers with probabilities; "none" takes them as they are'
                raise self.description.output.wrong("activation", reason)

    def begin_study(self) -> None:
        """Take away what a network could have kept of an earlier study: it may be another patient's."""
        if self._opened is not None:
            self._opened.renew()

    def algorithm(self, parameters: Mapping[str, str], seen: Iterable[str] = ()) -> Algorithm:
        """Return the algorithm of a result: name, version, digest and status of the model, and the parameters.

        `seen` is in words what share of each image was seen, '' where it is the whole.
        """
        texts = {
            **parameters,
            **({"seen": text} if (text := joined(seen, " / ")) else {}),
            "file": f"{self.model.format}, sha256 {self.model.entry.sha256[:16]}",
            "input": self.input_text,
            "precision": "f32 on cpu",
        }
        return algorithm(self, self.environment.weights, weights=self.weights(), parameters=texts)

    def window_of(self, instance: Instance) -> Window | None:
        """Return the gray values of a picture of a CT: those that the network sees; None as the image says."""
        scaling = self.description.input.scaling
        width = scaling.high - scaling.low
        is_shown = instance.text("Modality") == "CT" and scaling.kind == "range" and width > 1
        return Window((scaling.low + scaling.high) / 2, width) if is_shown else None

    @contextmanager
    def faults_of_the_description(self) -> Iterator[None]:
        """Raise WeightsError under the name of the model in place of a ModelError; unusable images stay what they are.

        Raises: WeightsError, UnusablePicture.
        """
        try:
            yield
        except UnusablePicture:
            raise
        except ModelError as error:
            raise WeightsError(f"{self.name}: {error}; correct model.toml") from error

    def _read_file(self) -> str:
        """Return the architecture that the description names, '' where the file holds the whole network.

        Raises: ConfigError.
        """
        file, model_format = self.model.file, self.model.format
        architecture = file.text("architecture") if model_format == "safetensors" else ""
        file.refuse_unknown()
        if model_format not in PACKAGES or (model_format == "bundle" and not self.reads_bundles):
            formats = [name for name in PACKAGES if name != "bundle" or self.reads_bundles]
            raise file.wrong("format", f"{self.model.kind} reads {', '.join(formats)}")
        if self.description.input.sliding and not self.reads_windows:
            raise self.model.table.wrong(
                "input", f"{self.model.kind} reads the whole input at once: no [input.sliding]"
            )
        if architecture and self.description.input.is_channels_last:
            raise file.wrong("format", 'architectures of timm take layout = "channels_first"')
        return architecture

    def demonstration(self, seed: int) -> SyntheticStudy:
        """Return a study of noise that the description takes: an image, or a stack of slices."""
        from ainode.handlers.described.examples import example  # noqa: PLC0415

        return example(self.description.takes, seed)


class ImageReading(DescribedReading, Generic[Answer]):
    """A model that answers with places on images, each by itself."""

    def __init__(self, environment: ModelEnvironment, model: DescribedModel) -> None:
        super().__init__(environment, model)
        if self.description.takes.is_stack or self.description.input.dimensions != PICTURE:
            raise self.description.output.wrong_together(
                f'{model.kind} reads images by themselves: dimensions = 2, images = "single"'
            )

    def read(self, selection: Selection) -> Result | OutOfScope:
        """Return what the model places on each image; unusable pixels are out of scope."""
        self.begin_study()
        answers, unusable = each_read(selection.instances, self._answer)
        if not answers:
            return grouped(unusable)
        return self._result(selection, answers, [*selection.declined.values(), *unusable])

    def _answer(self, instance: Instance) -> tuple[Answer, str]:
        """Return the answer on an image, and what share of the image was seen."""
        from ainode.handlers.described.pictures import prepared, seen_text  # noqa: PLC0415 - brings cv2 along

        inputs, placement = prepared(instance, self.description.input)
        with self.faults_of_the_description():
            return self._placed(self.network(inputs), placement), seen_text(placement.seen_share, "image")

    @abstractmethod
    def _placed(self, outputs: tuple[Values, ...], placement: "Placement") -> Answer:
        """Return the answer of the network on the pixels of the image.

        Raises: ModelError if the answer is not as described; UnusablePicture.
        """

    @abstractmethod
    def _result(
        self,
        selection: Selection,
        answers: Sequence[tuple[Instance, tuple[Answer, str]]],
        refusals: Collection[OutOfScope],
    ) -> Result:
        """Return the result of the answers on the images, and of what share of each was seen."""


def joined(texts: Iterable[str], separator: str = "; ") -> str:
    """Return the texts that say something, each once."""
    return separator.join(filter(None, dict.fromkeys(texts)))
