/* SPDX-License-Identifier: Apache-2.0 */
#ifndef K3SUP_TESTS_CRASH_LEAFS_H
#define K3SUP_TESTS_CRASH_LEAFS_H

extern const char leaf_sets[]; /* their names: TOP/a ... */
extern unsigned leafs_set;     /* which of them a start takes where there are none */

#endif
