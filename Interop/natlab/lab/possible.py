"""What two NATs allow, from what they are: the matrix that the reference puncher has to reach, and others are held to.

A direct UDP path without guessing needs that one side's packets find an open way to the other:
* both ports known (mapping of neither side depends on the destination): both send, each opens its own filter;
* one unknown port: its packets must pass the other side's filter although they come from another port than announced;
* both unknown: one side must let in anything at the port that it announced.
With guessing, one unknown port can be found, whatever the other side filters."""


def udp(one, other, guesses=False):
    if "udp-blocked" in (one.name, other.name) or _is_cut_by_carrier(one, other):
        return False
    unknown = [kind for kind in (one, other) if kind.mapping_depends]
    if not unknown:
        return True
    if len(unknown) == 2:
        return "none" in (one.filtering, other.filtering)
    known = other if unknown[0] is one else one
    return guesses or known.filtering != "address and port"


def tcp(one, other):
    """By simultaneous open from ports that a server saw; a host without a NAT in front just listens."""
    if _is_cut_by_carrier(one, other):
        return False
    if any(kind.name == "none" for kind in (one, other)):
        return True
    if one.mapping_depends or other.mapping_depends:
        return False
    return not all(kind.has("tcp-syn-drop", "tcp-syn-rst") for kind in (one, other))


def _is_cut_by_carrier(one, other):
    """Two homes behind one carrier NAT that does not bring back packets to its own address."""
    return one.is_behind_carrier and other.is_behind_carrier and not one.has("cgn-hairpin")
