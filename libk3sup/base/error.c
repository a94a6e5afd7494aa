/* SPDX-License-Identifier: Apache-2.0 */
#include <k3sup/error.h>

#include "base/util.h"

#include <limits.h>

#define CODE(name, sentence) {name, #name, sentence}

static const struct {
	int code;
	const char *name;
	const char *sentence;
} codes[] = {
	CODE(K3SUP_E_BUSY, "another run holds this node's lock"),
	CODE(K3SUP_E_CANCELLED, "the operation was cancelled"),
	CODE(K3SUP_E_CALLBACK, "the progress callback asked to stop"),
	CODE(K3SUP_E_TIMEOUT, "the given time is over"),
	CODE(K3SUP_E_UNSUPPORTED, "this system lacks what the guarantee needs"),
	CODE(K3SUP_E_PARSE, "the text is not what it should be"),
	CODE(K3SUP_E_INTERNAL, "a rule of libk3sup itself was broken, please report it"),
	CODE(K3SUP_E_ROOT, "the node's root is not a directory that can be opened"),
	CODE(K3SUP_E_FOREIGN_PROC, "the proc mount belongs to another pid namespace"),
	CODE(K3SUP_E_UNTRUSTED, "somebody else than root could change this path"),
	CODE(K3SUP_E_ESCAPE, "the path cannot be followed inside the node's root"),
	CODE(K3SUP_E_STATE_DIR, "the state directory is not ours alone, or is damaged"),
	CODE(K3SUP_E_PAYLOAD_MISSING, "the payload cannot be opened"),
	CODE(K3SUP_E_PAYLOAD_NOT_FILE, "the payload is not a regular file"),
	CODE(K3SUP_E_PAYLOAD_EMPTY, "the payload is empty"),
	CODE(K3SUP_E_PAYLOAD_NOT_K3S, "the payload is not a k3s binary"),
	CODE(K3SUP_E_PAYLOAD_ARCH, "the payload is for another architecture"),
	CODE(K3SUP_E_PAYLOAD_TRUNCATED, "the payload is truncated"),
	CODE(K3SUP_E_PAYLOAD_CHANGED, "the payload changed while it was read"),
	CODE(K3SUP_E_TARGET_MISSING, "there is no installed k3s file"),
	CODE(K3SUP_E_TARGET_DANGLING, "the installed k3s file is a link to nothing"),
	CODE(K3SUP_E_TARGET_LOOP, "the installed k3s file is a link in a circle"),
	CODE(K3SUP_E_TARGET_NOT_FILE, "the installed k3s file is not a regular file"),
	CODE(K3SUP_E_TARGET_READONLY, "the directory of the installed k3s file cannot be written"),
	CODE(K3SUP_E_TARGET_CHANGED, "somebody else replaced the installed k3s file meanwhile"),
	CODE(K3SUP_E_TARGET_BUSY, "some process holds the new file open for writing"),
	CODE(K3SUP_E_TARGET_AMBIGUOUS, "several k3s files are installed and nothing says which one runs"),
	CODE(K3SUP_E_NO_K3S, "no k3s of this node is running"),
	CODE(K3SUP_E_AMBIGUOUS, "more than one process could be this node's k3s"),
	CODE(K3SUP_E_GONE, "the process is gone"),
	CODE(K3SUP_E_REFUSED_PID, "this process is never signalled"),
	CODE(K3SUP_E_NOT_RESTARTED, "nothing started k3s again in time"),
	CODE(K3SUP_E_WRONG_BUILD, "the k3s that runs is not the wanted build"),
	CODE(K3SUP_E_NOT_STABLE, "k3s starts and ends again and again"),
};

static int negative(int code)
{
	return code > 0 ? -code : code;
}

const char *k3sup_strerror(int code)
{
	const char *text;

	if (code == 0)
		return "success";
	if (code == INT_MIN)
		return "unknown error";
	code = negative(code);
	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if (codes[i].code == code)
			return codes[i].sentence;
	text = code > -4096 ? strerrordesc_np(-code) : NULL; /* static text, unlike strerror(3) for unknown numbers */
	return text ? text : "unknown error";
}

const char *k3sup_error_name(int code)
{
	const char *name;

	if (code == 0)
		return "OK";
	if (code == INT_MIN)
		return "UNKNOWN";
	code = negative(code);
	for (size_t i = 0; i < ELEMENTSOF(codes); i++)
		if (codes[i].code == code)
			return codes[i].name;
	name = code > -4096 ? strerrorname_np(-code) : NULL;
	return name ? name : "UNKNOWN";
}
