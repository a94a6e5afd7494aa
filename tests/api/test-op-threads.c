/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be done from several threads. Mostly for ThreadSanitizer.
 */
#include "api.h"

#include <pthread.h>
#include <semaphore.h>

/*
 * libuv closes descriptors behind the back of ThreadSanitizer, which then takes the next one of that number, in another thread, for the same. The library's own
 * order between threads does not rest on what libuv does.
 */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
	return "called_from_lib:libuv.so\n";
}

enum { ROUNDS = 30, THREADS = 3 };

/* Threads do not use cmocka's assertions: those leave by longjmp(). */
struct job {
	struct host *host;
	k3sup_op *op;
	k3sup_doc *doc;
	sem_t go;
	unsigned wrong;
};

static void start_threads(pthread_t *threads, void *(*fn)(void *), struct job *jobs)
{
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(sem_init(&jobs[i].go, 0, 0), 0);
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &jobs[i]), 0);
	}
}

static void join_threads(pthread_t *threads, struct job *jobs)
{
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].wrong, 0);
	}
}

static void *cancel_when_told(void *arg)
{
	struct job *job = arg;

	while (sem_wait(&job->go) < 0)
		;
	k3sup_op_cancel(job->op);
	return NULL;
}

static int32_t on_progress(const struct k3sup_progress *progress, void *userdata)
{
	(void)progress;
	(*(int *)userdata)++;
	return 0;
}

static void on_log(int32_t level, const char *component, const char *message, void *userdata)
{
	(void)level;
	(void)component;
	(void)message;
	(*(int *)userdata)++;
}

static void operations_are_cancelled_from_other_threads(void **state)
{
	struct host h = {0};
	int said = 0, logged = 0;

	(void)state;
	host_setup(&h, 0);
	assert_int_equal(k3sup_ctx_set_log(h.ctx, K3SUP_LOG_DEBUG, on_log, &logged), 0);
	for (int round = 0; round < ROUNDS; round++) {
		struct job jobs[THREADS] = {0};
		pthread_t threads[THREADS];
		/* one waits, one works at times, and two threads cancel the same */
		k3sup_op *waits = wait_exit(h.node, h.process, 0), *works = read_build(h.ctx, h.file);
		int status;

		assert_int_equal(k3sup_op_set_progress(works, on_progress, &said), 0);
		jobs[0].op = jobs[1].op = waits;
		jobs[2].op = works;
		start_threads(threads, cancel_when_told, jobs);
		if (round % 2)
			assert_int_equal(k3sup_op_wait(waits, 0), -EINPROGRESS);
		for (int i = 0; i < THREADS; i++)
			sem_post(&jobs[i].go);
		assert_int_equal(k3sup_op_wait(waits, LONG), K3SUP_E_CANCELLED);
		status = k3sup_op_wait(works, LONG);
		assert_true(status == K3SUP_E_CANCELLED || status == K3SUP_E_PAYLOAD_NOT_K3S);
		join_threads(threads, jobs);
		k3sup_op_unref(waits);
		k3sup_op_unref(works);
	}
	host_teardown(&h);
}

static void *use_own_context(void *arg)
{
	struct job *job = arg;
	struct k3sup_node_opts node_opts = {.struct_size = sizeof(node_opts), .root = job->host->root};

	for (int round = 0; round < ROUNDS; round++) {
		struct k3sup_ctx_opts opts = {.struct_size = sizeof(opts), .flags = round % 3 ? 0 : K3SUP_CTX_INLINE};
		struct k3sup_build_read_opts read = {.struct_size = sizeof(read), .path = job->host->file};
		/* a handle may be used in any context */
		struct k3sup_wait_exit_opts wait = {.struct_size = sizeof(wait), .process = job->host->process, .timeout_ms = 1 + round % 5};
		k3sup_node *node = NULL;
		k3sup_ctx *ctx = NULL;
		k3sup_op *a = NULL, *b = NULL;

		if (k3sup_ctx_new(&opts, &ctx) < 0 || k3sup_node_new(ctx, &node_opts, &node) < 0 || k3sup_build_read(ctx, &read, &a) < 0 ||
			k3sup_wait_exit(node, &wait, &b) < 0) {
			job->wrong++;
			return NULL;
		}
		job->wrong += k3sup_op_wait(a, LONG) != K3SUP_E_PAYLOAD_NOT_K3S;
		if (round % 4)
			job->wrong += k3sup_op_wait(b, LONG) != K3SUP_E_TIMEOUT;
		job->wrong += strstr(k3sup_doc_json(k3sup_op_error(a)), k3sup_error_name(K3SUP_E_PAYLOAD_NOT_K3S)) == NULL;
		k3sup_node_unref(node);
		k3sup_ctx_unref(ctx);
		k3sup_op_unref(a);
		k3sup_op_unref(b);
	}
	return NULL;
}

static void contexts_of_several_threads_are_independent(void **state)
{
	struct job jobs[THREADS] = {0};
	pthread_t threads[THREADS];
	struct host h = {0};

	(void)state;
	host_setup(&h, 0);
	for (int i = 0; i < THREADS; i++)
		jobs[i].host = &h;
	start_threads(threads, use_own_context, jobs);
	join_threads(threads, jobs);
	host_teardown(&h);
}

static void *read_document(void *arg)
{
	struct job *job = arg;

	while (sem_wait(&job->go) < 0)
		;
	for (int i = 0; i < 20 * ROUNDS; i++) {
		k3sup_doc *doc = k3sup_doc_ref(job->doc), *part = NULL;
		const char *text = "";
		int64_t number = 0;

		job->wrong += k3sup_doc_get(doc, "/error", &part) != 0;
		job->wrong += k3sup_doc_str(part, "/name", &text) != 0 || strcmp(text, "K3SUP_E_PAYLOAD_NOT_K3S") != 0;
		job->wrong += k3sup_doc_i64(doc, "/error/code", &number) != 0 || number != K3SUP_E_PAYLOAD_NOT_K3S;
		job->wrong += strcmp(k3sup_strerror((int)number), k3sup_strerror(K3SUP_E_PAYLOAD_NOT_K3S)) != 0;
		job->wrong += k3sup_doc_len(doc, "") < 2 || k3sup_doc_json(part)[0] != '{';
		k3sup_doc_unref(part);
		k3sup_doc_unref(doc);
	}
	k3sup_doc_unref(job->doc);
	return NULL;
}

static void documents_are_read_from_many_threads(void **state)
{
	struct job jobs[THREADS] = {0};
	pthread_t threads[THREADS];
	struct host h = {0};
	k3sup_op *op;

	(void)state;
	host_setup(&h, 0);
	op = read_build(h.ctx, h.file);
	assert_int_equal(k3sup_op_wait(op, LONG), K3SUP_E_PAYLOAD_NOT_K3S);
	for (int i = 0; i < THREADS; i++)
		jobs[i].doc = k3sup_doc_ref(k3sup_op_result(op));
	start_threads(threads, read_document, jobs);
	for (int i = 0; i < THREADS; i++)
		sem_post(&jobs[i].go);
	k3sup_op_unref(op); /* documents do not need it */
	join_threads(threads, jobs);
	host_teardown(&h);
}

static void *move_on(void *arg)
{
	struct job *job = arg;

	job->wrong += k3sup_op_wait(job->op, LONG) != K3SUP_E_TIMEOUT;
	k3sup_op_unref(job->op);
	return NULL;
}

static void a_context_may_be_used_by_one_thread_after_another(void **state)
{
	struct host h = {0};

	(void)state;
	host_setup(&h, 0);
	for (int round = 0; round < ROUNDS; round++) {
		struct job job = {.op = wait_exit(h.node, h.process, 3)};
		k3sup_op *here = read_build(h.ctx, h.file);
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, move_on, &job), 0);
		pthread_join(thread, NULL);
		assert_int_equal(job.wrong, 0);
		assert_int_equal(k3sup_op_wait(here, LONG), K3SUP_E_PAYLOAD_NOT_K3S);
		k3sup_op_unref(here);
	}
	host_teardown(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations_are_cancelled_from_other_threads),
		cmocka_unit_test(contexts_of_several_threads_are_independent),
		cmocka_unit_test(documents_are_read_from_many_threads),
		cmocka_unit_test(a_context_may_be_used_by_one_thread_after_another),
	};

	return cmocka_run_group_tests_name("op-threads", tests, NULL, NULL);
}
