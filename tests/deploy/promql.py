"""Which labels a PromQL expression's result has, worked out from what its metrics are exposed with.

`labels(expression, catalog)` raises `QueryProblem` where the expression can never mean what it says: a metric that
nobody exposes or that two jobs do, a label or a label's value that it does not have, an aggregation by a label that is
gone, an operation on two vectors whose label sets differ without on() or ignoring() (no two series would match).

Left out: whether there are samples, and units.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import promql_parser as ql

Labels = frozenset[str]
_COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}
_SETS = {"and", "or", "unless"}
_SCALARS = {"time", "pi", "scalar", "vector"}


class QueryProblem(AssertionError):
    """What is wrong with an expression, with the expression."""


@dataclass(frozen=True)
class Exposed:
    """One metric of one job. `values` has what its labels were seen with, of those that are known in full."""

    job: str | None
    labels: Labels
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)


Catalog = Mapping[str, Sequence[Exposed]]


def labels(expression: str, catalog: Catalog) -> Labels:
    """The labels of the expression's result; none for a scalar."""
    try:
        return _labels(ql.parse(expression), catalog) or frozenset()
    except (QueryProblem, ValueError) as problem:
        raise QueryProblem(f"{problem}\n  in {expression}") from None


def _labels(expr: ql.Expr, catalog: Catalog) -> Labels | None:
    """None is a scalar."""
    match expr:
        case ql.NumberLiteral() | ql.StringLiteral():
            return None
        case ql.VectorSelector():
            return _selected(expr, catalog)
        case ql.MatrixSelector():
            return _labels(expr.vector_selector, catalog)
        case ql.ParenExpr() | ql.SubqueryExpr() | ql.UnaryExpr():
            return _labels(expr.expr, catalog)
        case ql.AggregateExpr():
            return _aggregated(expr, _labels(expr.expr, catalog) or frozenset())
        case ql.BinaryExpr():
            return _combined(expr, catalog)
        case ql.Call():
            return _called(expr, catalog)
    raise QueryProblem(f"{type(expr).__name__} is not known here")


def _selected(selector: ql.VectorSelector, catalog: Catalog) -> Labels:
    name = selector.name
    exposed = catalog.get(name or "", ())
    if not exposed:
        raise QueryProblem(f"nobody exposes {name}")
    matchers = selector.matchers.matchers
    jobs = {matcher.value for matcher in matchers if matcher.name == "job" and matcher.op == ql.MatchOp.Equal}
    meant = [each for each in exposed if each.job is None or not jobs or each.job in jobs]
    if not meant:
        raise QueryProblem(f"{name} is not of the job {jobs}")
    if len(meant) > 1:
        raise QueryProblem(f"{name} is exposed by {sorted(str(each.job) for each in meant)}: job must say which")
    for matcher in matchers:
        _need({matcher.name}, meant[0].labels, f"{name} has no label")
        known = meant[0].values.get(matcher.name)
        if known is None:
            continue
        if matcher.op == ql.MatchOp.Equal and matcher.value not in known:
            raise QueryProblem(f"{name} has no {matcher.name}={matcher.value!r}, but {sorted(known)}")
        if matcher.op == ql.MatchOp.Re and not any(re.fullmatch(matcher.value, value) for value in known):
            raise QueryProblem(f"{name} has no {matcher.name} like {matcher.value!r}, but {sorted(known)}")
    return meant[0].labels


def _aggregated(expr: ql.AggregateExpr, inner: Labels) -> Labels:
    if str(expr.op) in {"topk", "bottomk"}:
        return inner
    if expr.modifier is None:
        return frozenset()
    named = frozenset(expr.modifier.labels)
    _need(named, inner, "aggregated by a label that is not there:")
    return named if expr.modifier.type == ql.AggModifierType.By else inner - named


def _called(expr: ql.Call, catalog: Catalog) -> Labels | None:
    name = expr.func.name
    if name in _SCALARS:
        return None
    vectors = [found for argument in expr.args if (found := _labels(argument, catalog)) is not None]
    if not vectors:
        return None
    inner = vectors[0]
    if name == "histogram_quantile":
        _need({"le"}, inner, "histogram_quantile without")
        return inner - {"le"}
    if name == "label_replace":
        texts = [argument.val for argument in expr.args if isinstance(argument, ql.StringLiteral)]
        _need({texts[2]}, inner, "label_replace of a label that is not there:")
        return inner | {texts[0]}
    if name == "absent":
        selector = expr.args[0]
        if isinstance(selector, ql.VectorSelector):
            return frozenset(each.name for each in selector.matchers.matchers if each.op == ql.MatchOp.Equal)
    return inner


def _combined(expr: ql.BinaryExpr, catalog: Catalog) -> Labels | None:
    left, right = _labels(expr.lhs, catalog), _labels(expr.rhs, catalog)
    if left is None or right is None:
        return right if left is None else left
    op = str(expr.op)
    if op == "or":
        return left & right
    matching = expr.modifier.matching if expr.modifier is not None else None
    if matching is None:
        if left != right:
            raise QueryProblem(f"the two sides of {op} have the labels {sorted(left)} and {sorted(right)}: none match")
        return left
    named = frozenset(matching.labels)
    if matching.type == ql.LabelModifierType.Include:
        for side in (left, right):
            _need(named, side, f"{op} matches by a label that is not there:")
    else:
        _need(named, left | right, f"{op} ignores a label that is not there:")
        if left - named != right - named:
            raise QueryProblem(f"the two sides of {op} differ in more than {matching.labels}")
        named = left - named
    kept = frozenset(expr.modifier.group_labels or ()) if expr.modifier is not None else frozenset()
    _need(kept, left | right, "group of a label that is not there:")
    if op in _SETS | _COMPARISONS:
        return left
    return named | kept


def _need(wanted: set[str] | Labels, there: Labels, complaint: str) -> None:
    if missing := sorted(set(wanted) - there):
        raise QueryProblem(f"{complaint} {', '.join(missing)} (there are {', '.join(sorted(there)) or 'none'})")
