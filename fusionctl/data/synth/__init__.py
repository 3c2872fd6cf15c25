"""Synthetic data in the exact layout of MIMIC-IV and MIMIC-CXR-JPG, with a known generative story.

The story, for stay i (z, e, f, u, n are independent standard normals):

    death      P(died_i) = sigmoid(-2.9 + 1.4 z_i + 1.2 e_i + 1.0 f_i)                         about 15 %
    bedside    s_i(t)    = 0.8 z_i + 0.6 e_i (0.5 + min(t, 48) / 48),   t in hours since intime
    signal j   x_ij(t)   = base_j + gain_j s_i(t) + offset_j u_ij + noise_j a_ij(t), cut to a range; a is AR(1), 0.7
               (vital signs, urine, laboratory values; each has a stay offset u and a noise a of its own)
    coma       one such signal, cut by thresholds into the three parts of the Glasgow coma scale
    film k     r_ik      = c_k (0.4 z_i + 0.8 f_i) + 0.7 n_k,   c = 1 in the stay, 0.5 before and after it
    findings   consolidation, effusion, edema, heart width: each linear in r_ik plus noise of its own; the picture is
               drawn from them with random position, exposure and grain, the 14 labels are thresholds on them
    diagnosis  P(code d) = sigmoid(b_d + w_d (z, e, f)); pneumonia and effusion hang on f, sepsis and shock on e

z is common, e shows in the tables alone and f in the films alone, so either modality predicts death and both do so
better than each; e grows over the stay, so later rows tell more. A film exists or not by the calendar year (MIMIC-CXR
covers 2011-2016) and by chance, not by severity. With only an outcome to go by (`write_films`) the film's severity is
0.9 died_i + 0.85 n instead of 0.4 z + 0.8 f.

The numbers behind it stand in `story` (latents), `items` (signals), `tables` (diagnoses) and
`films` (films). Dirt copied from the real tables is listed in the tests, one assertion for each.

The same arguments give the same bytes; every table has a random stream of its own, drawn in blocks of `BLOCK` stays,
so memory does not grow with the number of stays.
"""

from fusionctl.data.synth.tree import ensure_tree, write_films, write_tree

__all__ = ["ensure_tree", "write_films", "write_tree"]
