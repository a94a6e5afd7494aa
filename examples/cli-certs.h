/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forms in which k3sup-certs prints the result of k3sup_certs_check(). table, text, json and yaml follow `k3s certificate check`, so that what reads that can read this; their rows
 * are the leafs and what comes with them in their files, and the listener's, which k3s leaves out.
 */
#ifndef K3SUP_EXAMPLES_CLI_CERTS_H
#define K3SUP_EXAMPLES_CLI_CERTS_H

#include "cli.h"

void print_table(k3sup_doc *doc); /* with the problems, and on a terminal a timeline */
void print_text(k3sup_doc *doc);
void print_json(k3sup_doc *doc);
void print_yaml(k3sup_doc *doc);
void print_metrics(k3sup_doc *doc); /* Prometheus text, k3s's own gauge */
void print_ca_check(k3sup_doc *doc);
void print_backups(k3sup_doc *doc);
void print_restored(k3sup_doc *doc);

#endif
