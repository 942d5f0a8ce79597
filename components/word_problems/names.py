"""Names of the families of problems, for options: what checks them need not hold the generator."""

FAMILY_NAMES = (
    "gain",
    "loss",
    "groups",
    "share",
    "compare_more",
    "compare_fewer",
    "compare_times",
    "difference",
    "price",
    "money_left",
    "two_kinds",
    "reading",
    "wages",
    "age",
    "fence",
    "seats",
    "walk",
    "pack",
    "teams",
    "average",
)
