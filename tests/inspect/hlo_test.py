import pytest

from optnet_jax.inspect import hlo

TEXT = """HloModule step, is_scheduled=true

%fused (a: bf16[4]) -> bf16[4] {
  %p = bf16[4096,4096]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %n = bf16[4096,4096]{1,0:T(8,128)(2,1)} negate(%p)
}

ENTRY %main (x: bf16[64,10]) -> (bf16[64,10], f32[]) {
  %x = bf16[64,10]{1,0:T(8,128)(2,1)} parameter(0)
  %one = f32[]{:T(128)} constant(1)
  %start = (bf16[64,10]{1,0:T(8,128)(2,1)S(1)}, bf16[64,10]{1,0:T(8,128)(2,1)}, \
u32[]{:S(2)}) copy-start(%x), cross_program_prefetch_index=0
  %here = bf16[64,10]{1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  %cut = (bf16[64,10]{1,0:T(8,128)(2,1)}, bf16[8,10]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
slice-start(%x), slice={[0:8], [0:10]}
  %two = (bf16[64,10]{1,0:T(8,128)(2,1)}, f32[10]{0:T(128)S(1)}) \
fusion(%here, /*index=1*/%one), kind=kLoop, calls=%fused, metadata={op_name="a (b)"}
  %y = bf16[64,10]{1,0:T(8,128)(2,1)} get-tuple-element(%two), index=0
  %z = pred[]{:T(512)} all-reduce(%y), replica_groups={{0,1}}, to_apply=%sum
  %w = (s32[], bf16[64,10]) while(%y), condition=%c, body=%b
  ROOT %out = (bf16[64,10]{1,0:T(8,128)(2,1)}, pred[]{:T(512)}) tuple(%y, %z)
}
"""
ROWS = 2 * 64 * 128  # bytes of a padded bf16[64,10]


def test_what_goes_to_hbm_is_counted_once_for_each_operation():
    prefetch, cut = ROWS, 2 * (2 * 8 * 128)
    fusion = ROWS + 4  # one result; the constant, which has no axis to pad
    reduced = ROWS + 1
    assert hlo.hbm_traffic(TEXT) == prefetch + cut + fusion + reduced


def test_collectives_and_loops_are_counted():
    assert hlo.collectives(TEXT) == {"all-reduce": 1}
    assert hlo.loops(TEXT) == 1


@pytest.mark.parametrize(
    ("kind", "arrays"),
    [
        ("bf16[64,10]{1,0:T(8,128)(2,1)}", [(ROWS, True)]),
        ("bf16[64,10]{0,1:T(8,128)(2,1)S(1)}", [(2 * 128 * 16, False)]),
        ("f32[3,3,64,64]{3,2,1,0:T(8,128)}", [(4 * 9 * 64 * 128, True)]),
        ("f32[64]{0:T(128)}", [(512, True)]),
        ("f8e4m3fn[2,3]", [(6, True)]),
        ("(pred[5], u32[]{:S(2)})", [(5, True), (4, False)]),
        ("token[]", [(1, True)]),
    ],
)
def test_an_array_is_as_large_as_its_tiles(kind, arrays):
    assert list(hlo.arrays(kind)) == arrays
