/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Certificates and keys that were decoded or compared once are not decoded and compared again: that makes no system call, and takes most of a rotation's time. The linker leads the
 * library's calls here.
 */
#ifndef K3SUP_TESTS_CRASH_PARSED_H
#define K3SUP_TESTS_CRASH_PARSED_H

#include <stdbool.h>

extern bool parsed_learns;     /* what is not known yet will be */
extern bool parsed_remembered; /* false: everything is decoded */

#endif
