from structlog.testing import capture_logs

from ollama_op.kube.lost import Lost


def test_a_field_that_is_lost_is_told_once():
    """As kube-apiserver 1.35 writes it; what else it warns of is none of this."""
    lost = Lost()
    with capture_logs() as lines:
        lost.mind([])
        lost.mind(['299 - "spec.tag: latest moves"'])
        for _ in range(2):
            lost.mind(
                ['299 - "unknown field \\"status.b\\""', '299 - "unknown field \\"status.a\\""']
            )
        lost.mind(['299 - "unknown field \\"status.conditions[0].c\\""'])
    assert [line["fields"] for line in lines] == ["status.a, status.b", "status.conditions[0].c"]
    assert lines[0]["hint"] == "kubectl apply -k config/crd"
