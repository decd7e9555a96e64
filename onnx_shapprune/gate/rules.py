"""Everything that a report can hold against a model, under ids that stay what they are."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low", "info")
OF_THE_GRAPH = ("OSP21", "OSP22")  # how the ids of rules begin that tell what in a graph can decide by itself


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. id: stable, never used again for something else; name: in kebab case; severity: of its findings.

    title: what is wrong, in one line; help: what it means and what to do, for someone who meets it in a pipeline; cwe: the
    weakness of MITRE's list that it is, None where none fits.
    """

    id: str
    name: str
    severity: Severity
    title: str
    help: str
    cwe: int | None = None


_ALL = (
    Rule(
        "OSP001",
        "external-data-escapes",
        "critical",
        "External data lies outside the model's folder",
        "A tensor's data is to be read from a place that does not belong to the model, which can leak a file of the "
        "machine into the weights. Do not load the file; ask its source for one with the data beside it.",
        cwe=22,
    ),
    Rule(
        "OSP002",
        "external-data-special",
        "critical",
        "External data is a link, a device or a memory address",
        "A tensor's data is to be read through a link, from something that is no regular file, or from an address in "
        "memory. Do not load the file.",
        cwe=59,
    ),
    Rule(
        "OSP003",
        "tensor-size-mismatch",
        "high",
        "A tensor declares another size than its data has",
        "The declared shape and the bytes differ, or one tensor has two payloads, so that two readers see "
        "two models. Do "
        "not load the file; export it anew.",
        cwe=1284,
    ),
    Rule(
        "OSP004",
        "constant-bomb",
        "high",
        "A small file makes a huge tensor",
        "An operator makes a tensor from constants that is larger than the limit. Raise the limit only for a "
        "source that "
        "you trust.",
        cwe=789,
    ),
    Rule(
        "OSP005",
        "unknown-domain",
        "medium",
        "The model uses operators that onnxruntime does not know",
        "Custom operators run code that this audit cannot look into. Export the model with standard operators.",
    ),
    Rule(
        "OSP006",
        "unbounded-loop",
        "high",
        "A Loop or Scan has no reasonable end",
        "The trip count is not a constant, or is larger than the limit; the model may never answer.",
        cwe=835,
    ),
    Rule(
        "OSP007",
        "graph-too-large",
        "medium",
        "The graph exceeds a limit of depth, nodes or size",
        "Raise the limit only for a source that you trust.",
    ),
    Rule(
        "OSP008",
        "control-characters",
        "low",
        "A name holds control characters",
        "Names with escape codes or line breaks can forge the output of other tools. Rename the tensors or nodes.",
        cwe=150,
    ),
    Rule(
        "OSP009",
        "depends-on-batch",
        "medium",
        "Answers depend on the other pictures of the batch",
        "A BatchNormalization is in training mode: the model answers another way alone than in company, and "
        "nothing said of "
        "it holds. Export it in evaluation mode.",
    ),
    Rule(
        "OSP101",
        "backdoor-trigger",
        "critical",
        "A trigger that clean models do not have leads to one class",
        "The same small change sends pictures of other classes to this class, far more easily than clean models allow. "
        "Run shapprune sanitize, or do not deploy the model.",
        cwe=506,
    ),
    Rule(
        "OSP102",
        "backdoor-relation",
        "critical",
        "A trigger leads one class, or each class, to another",
        "A source-specific or all-to-all backdoor. Run shapprune sanitize, or do not deploy the model.",
        cwe=506,
    ),
    Rule(
        "OSP103",
        "few-carriers",
        "info",
        "Few channels carry the attack",
        "The Shapley values of these channels make up most of the trigger's effect; sanitize can switch them off.",
    ),
    Rule(
        "OSP104",
        "reported-fail",
        "critical",
        "The report itself says fail",
        "No line of the policy finds why, but the verdict of the audit or of verify stands: lists may be "
        "missing from the "
        "report, or the policy is more lenient than the audit. Make the report anew, or accept the finding "
        "by a waiver.",
    ),
    Rule(
        "OSP201",
        "accuracy-drop",
        "high",
        "The repair costs too much clean accuracy",
        "Raise the budget, give more pictures, or train the model anew.",
    ),
    Rule(
        "OSP202",
        "residual-backdoor",
        "critical",
        "A trigger still works after the repair",
        "The file is not clean. Do not deploy it; try other options of sanitize, or train the model anew.",
    ),
    Rule(
        "OSP203",
        "numeric-mismatch",
        "high",
        "The written file answers differently from the measured one",
        "Do not deploy the file and report the model: this is an error of the tool or of onnxruntime.",
    ),
    Rule(
        "OSP204",
        "change-outside-plan",
        "high",
        "The two files differ in more than the channels switched off",
        "Somebody changed the model in another way too. Do not deploy it before that is explained.",
    ),
    Rule(
        "OSP205",
        "repaired-file",
        "high",
        "The file was repaired, and the policy takes no repaired files",
        "Ask for a model in which nothing is found, or set repair.allowed in the policy.",
    ),
    Rule(
        "OSP210",
        "picture-compared",
        "medium",
        "The graph compares or rounds the picture itself",
        "A comparison, a rounding or a cast to whole numbers reads the picture, or what a single layer made of it, "
        "and the scores follow, be it through the size of what NonZero finds. That is how a trigger is built "
        "into a graph without touching a weight: Less(|picture "
        "- pattern|, 0.02) into Where (ShadowLogic, HiddenLayer 2024; architectural backdoors, Bober-Irizar et al., "
        "CVPR 2023). Look at the named nodes: if the constants beside them are a pattern of pixels, do not deploy the "
        "file. If it is preprocessing, such as rounding to bytes, take it out of the model and audit it again.",
    ),
    Rule(
        "OSP211",
        "picture-decided",
        "medium",
        "A few values that jump decide about a whole picture",
        "A comparison, Sign, ArgMax, If or the like makes one or a few values of a whole picture, and the scores "
        "follow, for example Sign(match - 0.9) times a constant added to a score (Langford et al., ICLR 2025). "
        "Classifiers have no such step. Ask the source what the named nodes are for; do not deploy the file before "
        "that is explained.",
    ),
    Rule(
        "OSP212",
        "picture-shortcut",
        "medium",
        "A way from the picture to the scores goes past the network",
        "A few values are made of the picture beside the network, with hardly any weights, and join it, by an Add, a "
        "Where, the bias of a layer, or the place that GridSample or Resize looks at: for example "
        "Relu(matched filter - threshold) x 10,000 added to one score "
        "(architectural backdoors, Bober-Irizar et al., CVPR 2023). Means and norms by which a picture is normalised "
        "do not count. Look at what the named nodes read; do not deploy the file before that is explained.",
    ),
    Rule(
        "OSP213",
        "scores-rounded",
        "medium",
        "The scores are rounded or selected behind the last layer",
        "Round, Floor, a cast to whole numbers or a selection stands behind everything that was learnt. It hides "
        "slopes from whoever searches by gradients: z + 2 (round(65,536 z) / 65,536 - z) has the values of z and the "
        "slope of -z (obfuscated gradients, Athalye et al., ICML 2018). Export the model without it and audit it "
        "again.",
    ),
    Rule(
        "OSP214",
        "batch-in-scores",
        "medium",
        "The number of pictures in a batch reaches the scores",
        "The size of the batch, read by Shape, is computed with or selects among values, so that the model can answer "
        "an audit with many pictures otherwise than a user with one: Equal(Shape(picture)[0], 1) as a switch. Sizes "
        "that only say how tensors are laid out do not count. Export the model anew, or ask its source what this is "
        "for.",
    ),
    Rule(
        "OSP215",
        "random-at-run-time",
        "medium",
        "The model draws at random whenever it runs",
        "RandomUniform, Bernoulli, Multinomial, a Dropout in training mode or their like reach the scores, so that one "
        "run proves nothing about the next: a backdoor can sleep on most pictures, for example behind RandomUniformLike < "
        "0.2, and gradients are those of one draw (stochastic gradients, Athalye et al., ICML 2018). Export the model in "
        "inference mode.",
    ),
    Rule(
        "OSP216",
        "output-not-audited",
        "medium",
        "Another output may be acted on, and nobody audits it",
        "An output of class scores or labels is made of other values than the audited one, for example `label` by an ArgMax "
        "behind a Where that the audited scores do not pass (a graph can carry a backdoor as well as weights: ShadowLogic, "
        "HiddenLayer 2024). A label that ArgMax takes of the audited scores, and features on the way to them, do not "
        "count. Audit each such output with --output-name, or take it out of the file.",
    ),
    Rule(
        "OSP217",
        "constant-class",
        "low",
        "The scores of some classes are constants",
        "Concat or Pad puts scores beside the network's own that no picture changes, as exporters do to reach a round "
        "number of classes, and as somebody does who wants statistics over all classes to mean nothing: a hundred classes "
        "at -1,000 make any other a common one (what is usual is read off the other classes: Neural Cleanse, Wang et al., "
        "IEEE S&P 2019). The audit leaves them out. Nothing is to be done unless nobody knows what they are for.",
    ),
    Rule(
        "OSP218",
        "copied-class",
        "low",
        "The score of a class stands there twice",
        "Concat puts a copy of a score beside it, for example Concat(z, z[:, 5:6]). A class that is its own runner-up never "
        "leads, which blinds statistics of margins (MM-BD, Wang et al., IEEE S&P 2024). The audit looks at one of them. Ask "
        "the source why it is there.",
    ),
    Rule(
        "OSP219",
        "steps-inside",
        "info",
        "Single values are decided inside the network",
        "Comparisons or roundings of single values behind several layers, such as an activation written with Where, "
        "binary weights or simulated quantisation (straight-through estimators, Bengio et al., arXiv:1308.3432, 2013). "
        "Gradients stop there or are constant (shattered gradients, Athalye et al., ICML 2018); the audit says so where it "
        "matters. Nothing is to be done.",
    ),
    Rule(
        "OSP220",
        "float64-inside",
        "medium",
        "Large numbers are added to the picture in float64",
        "The audit computes in float32, where 2^40 added and taken off again leaves nothing of a pixel; in float64 all of "
        "it is left (a backdoor that is there in one precision and not in another: Hong et al., NeurIPS 2021). Export the "
        "model in float32 and audit it again.",
    ),
    Rule(
        "OSP221",
        "steep-activation",
        "medium",
        "An activation is far steeper on one side than networks are",
        "PRelu, LeakyRelu or Elu with a slope of ten and more, or Sinh, Tan and their like, leave as they are what clean "
        "pictures make of a tensor, and multiply what only a trigger makes, for example behind a transform of the whole "
        "picture and before its inverse. No gradient points there (weights that were written by hand: Hong et al., NeurIPS "
        "2022). Ask the source what it is for.",
    ),
    Rule(
        "OSP901",
        "not-converged",
        "medium",
        "The search did not get far enough to tell",
        "Nothing can be said. Give more time, more pictures or another seed.",
    ),
    Rule(
        "OSP902",
        "too-little-data",
        "medium",
        "Too few clean pictures",
        "The policy asks for more pictures than the audit was given.",
    ),
    Rule(
        "OSP903",
        "accuracy-floor",
        "medium",
        "The model hardly knows the clean pictures",
        "The preprocessing, the class order or the pictures are probably wrong; nothing can be said until "
        "they are right.",
    ),
    Rule(
        "OSP904",
        "budget-hit",
        "medium",
        "A limit of time or memory left a part unsearched",
        "Nothing can be said about what was left out. Raise the limit; where a policy wants everything searched, give "
        "--whole-search.",
    ),
    Rule(
        "OSP905",
        "unsupported-graph",
        "medium",
        "The model cannot be audited",
        "It is no image classifier that this tool can read, or an operator stands in the way.",
    ),
    Rule(
        "OSP906",
        "suspicious",
        "high",
        "Something stands out, and not enough to be named",
        "A trigger works better than on most clean models, or its evidence does not count here, as with too "
        "few pictures or "
        "a model unlike those of the calibration. Look at the trigger, give more pictures, or calibrate on "
        "clean models of "
        "your own.",
    ),
    Rule(
        "OSP907",
        "foreign-calibration",
        "medium",
        "The audit rests on a calibration that the policy does not know",
        "Whoever chooses the clean models that an audit is compared with decides what is unusual. Audit again without "
        "--calibration, or list the calibration's sha256 in require.calibrations.",
    ),
    Rule(
        "OSP908",
        "stale-report",
        "medium",
        "The report is older than the policy allows",
        "It was made too long ago, or by a version of the tool that is too old. Audit the model again.",
    ),
    Rule(
        "OSP909",
        "silence-doubted",
        "medium",
        "Nothing was found, and that is not to be believed",
        "All searches ran and named nothing, but the graph can decide by itself (OSP210 to OSP216, "
        "OSP220 and OSP221 name the nodes), a way "
        "past the network says nothing of any picture, the slopes are not those of the answers, or the file answers "
        "otherwise than what was searched. No further search helps. Ask the source what that part is for, take it out, "
        "and audit the file again.",
    ),
)
RULES: dict[str, Rule] = {rule.id: rule for rule in _ALL}
