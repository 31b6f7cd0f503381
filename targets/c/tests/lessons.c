/* A lesson from frames: told, stopped, gone on with to the same bytes, taken back, forgotten; and one from a folder.
 *   lessons BUNDLE FOLDER WORK
 */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include <srlora.h>

#include "test.h"

enum { WIDTH = 20, HEIGHT = 16, STRIDE = 64, FRAMES = 8, STEPS = 6, SIGNALS = 6 };

static const srlora_bundle *bundle;

static srlora_frame frame(uint8_t *bytes, unsigned seed, int bright) {
    for (size_t at = 0; at < STRIDE * HEIGHT; at++) bytes[at] = (uint8_t)((bright ? 150 : 30) + at * (seed + 3) % 61);
    return (srlora_frame){.struct_size = sizeof(srlora_frame), .format = SRLORA_FORMAT_BGR, .width = WIDTH,
                          .height = HEIGHT, .data = bytes, .size = STRIDE * HEIGHT, .stride = STRIDE};
}

static srlora_photos *photos_of(const char *bright_name) {
    srlora_photos *photos = srlora_photos_new();
    for (unsigned seed = 0; seed < FRAMES; seed++) {
        for (int bright = 0; bright < 2; bright++) {
            /* Gone as soon as it is added. */
            uint8_t *bytes = malloc(STRIDE * HEIGHT);
            const srlora_frame photo = frame(bytes, seed, bright);
            CHECK(srlora_photos_add(photos, bright ? bright_name : "dark", &photo, NULL) == SRLORA_CODE_OK);
            free(bytes);
        }
    }
    CHECK(srlora_photos_count(photos) == 2 * FRAMES);
    return photos;
}

static srlora_trainer *trainer_of(const srlora_photos *photos, const char *store, bool resume, bool further) {
    srlora_lesson *lesson = NULL;
    srlora_trainer *trainer = NULL;
    srlora_error *error = NULL;
    CHECK(srlora_lesson_new_from_photos(photos, &lesson, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_steps(lesson, STEPS) == SRLORA_CODE_OK && srlora_lesson_set_batch(lesson, 4) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_method(lesson, SRLORA_METHOD_SRLORA) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_seed(lesson, 3) == SRLORA_CODE_OK && srlora_lesson_set_threads(lesson, 2) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_lr(lesson, 1e-3f) == SRLORA_CODE_OK && srlora_lesson_set_head_lr(lesson, 1e-3f) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_augment(lesson, false) == SRLORA_CODE_OK && srlora_lesson_set_replay(lesson, 1 << 16) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_ram_limit(lesson, 0) == SRLORA_CODE_OK && srlora_lesson_set_cache(lesson, false) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_resume(lesson, resume) == SRLORA_CODE_OK && srlora_lesson_set_further(lesson, further) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_checkpoint(lesson, 0) == SRLORA_CODE_OK);
    const srlora_code code = srlora_trainer_new(bundle, lesson, store, &trainer, &error);
    if (error != NULL) fprintf(stderr, "%s\n", srlora_error_sentence(error));
    CHECK(code == SRLORA_CODE_OK);
    srlora_error_free(error);
    srlora_lesson_free(lesson);
    CHECK(srlora_trainer_steps(trainer) == STEPS && srlora_trainer_seconds(trainer) > 0);
    return trainer;
}

struct told {
    unsigned begun, advanced, steps, ended, planned, texts;
    uint64_t stop_after;
    const srlora_trainer *trainer;
    bool asks_itself;
};

static bool hear(const srlora_event *event, void *userdata) {
    struct told *told = userdata;
    switch (event->kind) {
        case SRLORA_EVENT_KIND_BEGIN: told->begun++; CHECK(event->text != NULL && strlen(event->text) > 0); break;
        case SRLORA_EVENT_KIND_ADVANCE: told->advanced++; CHECK(event->done > 0 && event->done <= event->total); break;
        case SRLORA_EVENT_KIND_STEP: told->steps++; CHECK(isfinite(event->loss) && event->accuracy >= 0); break;
        case SRLORA_EVENT_KIND_END: told->ended++; break;
        case SRLORA_EVENT_KIND_PLANNED: told->planned++; CHECK(event->total == STEPS && event->seconds > 0); break;
        default: told->texts += event->text != NULL;
    }
    if (told->asks_itself) {
        /* An observer that asks its own trainer is refused, and nothing hangs. */
        srlora_happened happened;
        CHECK(srlora_trainer_step(told->trainer, NULL, NULL, &happened, NULL) == SRLORA_CODE_BUSY);
        told->asks_itself = false;
    }
    return event->kind != SRLORA_EVENT_KIND_STEP || told->stop_after == 0 || event->step < told->stop_after;
}

static void whole(const srlora_photos *photos, const char *store) {
    srlora_trainer *trainer = trainer_of(photos, store, false, false);
    struct told told = {.trainer = trainer, .asks_itself = true};
    srlora_report *report = NULL;
    srlora_error *error = NULL;
    CHECK(srlora_trainer_run(trainer, hear, &told, NULL, NULL) == SRLORA_CODE_USAGE);
    CHECK(srlora_trainer_run(trainer, hear, &told, &report, &error) == SRLORA_CODE_OK);
    if (error != NULL) fprintf(stderr, "%s\n", srlora_error_sentence(error));
    CHECK(told.begun > 0 && told.begun == told.ended && told.steps >= STEPS && told.planned == 1 && !told.asks_itself);
    CHECK(srlora_report_steps(report) == STEPS && srlora_report_train_images(report) == 2 * FRAMES);
    CHECK(srlora_report_generation(report) >= 1 && isfinite(srlora_report_train_loss(report)));
    CHECK(isnan(srlora_report_val_accuracy(report)) && strstr(srlora_report_json(report), "\"steps\":6") != NULL);
    printf("generation %llu, aside %llu\n", (unsigned long long)srlora_report_generation(report),
           (unsigned long long)srlora_report_aside(report));
    srlora_report_free(report);
    srlora_trainer_free(trainer);
}

static void stopped_by_the_observer_and_resumed(const srlora_photos *photos, const char *store) {
    srlora_trainer *trainer = trainer_of(photos, store, false, false);
    struct told told = {.stop_after = 2};
    srlora_report *report = NULL;
    srlora_error *error = NULL;
    CHECK(srlora_trainer_run(trainer, hear, &told, &report, &error) == SRLORA_CODE_STOPPED);
    CHECK(report == NULL && strstr(srlora_error_sentence(error), "`resume`") != NULL);
    srlora_error_free(error);
    CHECK(srlora_trainer_run(trainer, NULL, NULL, &report, NULL) == SRLORA_CODE_USAGE);
    srlora_trainer_free(trainer);
    /* Gone on with step by step. */
    trainer = trainer_of(photos, store, true, false);
    srlora_happened happened = SRLORA_HAPPENED_IMPRINTED;
    unsigned steps = 0;
    while (happened != SRLORA_HAPPENED_ENDED) {
        if (srlora_trainer_step(trainer, NULL, NULL, &happened, &error) != SRLORA_CODE_OK) break;
        steps += happened == SRLORA_HAPPENED_STEP;
    }
    CHECK(happened == SRLORA_HAPPENED_ENDED && steps > 0 && steps < STEPS);
    CHECK(srlora_trainer_run(trainer, NULL, NULL, &report, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_report_steps(report) == STEPS);
    srlora_report_free(report);
    srlora_trainer_free(trainer);
}

static void *stop(void *trainer) {
    srlora_trainer_stop(trainer);
    return NULL;
}

static void stopped_by_another_thread(const srlora_photos *photos, const char *store) {
    srlora_trainer *trainer = trainer_of(photos, store, false, false);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stop, trainer) == 0);
    pthread_join(thread, NULL);
    srlora_report *report = NULL;
    CHECK(srlora_trainer_run(trainer, NULL, NULL, &report, NULL) == SRLORA_CODE_STOPPED && report == NULL);
    srlora_trainer_free(trainer);
}

static void classified(const char *folder) {
    srlora_store *store = NULL;
    srlora_classifier *classifier = NULL;
    CHECK(srlora_store_open(folder, &store, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_classifier_new(bundle, store, &classifier, NULL) == SRLORA_CODE_OK);
    srlora_store_free(store);
    const size_t features = srlora_bundle_feature_count(bundle);
    float *values = malloc(features * sizeof *values);
    uint8_t *bytes = malloc(STRIDE * HEIGHT);
    for (int bright = 0; bright < 2; bright++) {
        const srlora_frame photo = frame(bytes, 5, bright);
        srlora_prediction *prediction = NULL;
        CHECK(srlora_classifier_predict(classifier, &photo, 9, &prediction, NULL) == SRLORA_CODE_OK);
        CHECK(srlora_prediction_count(prediction) == 2);
        CHECK(strcmp(srlora_prediction_label(prediction, 0), bright ? "bright" : "dark") == 0);
        CHECK((srlora_prediction_unknown(prediction) != SRLORA_UNKNOWN_UNTOLD) == srlora_classifier_tells_unknown(classifier));
        srlora_prediction_free(prediction);
        CHECK(srlora_classifier_embed(classifier, &photo, features, values, NULL) == SRLORA_CODE_OK);
        CHECK(isfinite(values[0]) && isfinite(values[features - 1]));
        CHECK(srlora_classifier_embed(classifier, &photo, features - 1, values, NULL) == SRLORA_CODE_USAGE);
    }
    free(bytes);
    free(values);
    srlora_classifier_free(classifier);
}

static void taken_back_and_forgotten(const char *folder) {
    srlora_store *store = NULL;
    srlora_error *error = NULL;
    CHECK(srlora_store_open(folder, &store, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_store_warning(store) == NULL && srlora_store_class_count(store) == 2);
    CHECK(strcmp(srlora_store_class(store, 0), "bright") == 0 && srlora_store_class(store, 2) == NULL);
    const uint64_t was = srlora_store_current(store);
    CHECK(srlora_store_generation_count(store) >= 1 && srlora_store_generation(store, 0) == was);
    CHECK(srlora_store_generation(store, 99) == 0 && srlora_store_aside(store, 99) == 0);
    uint64_t number = 77;
    CHECK(srlora_store_rollback(store, 1000, &number, &error) == SRLORA_CODE_USAGE && number == 77);
    CHECK(strstr(srlora_error_sentence(error), "`to`: there is no generation 1000") != NULL);
    srlora_error_free(error);
    CHECK(srlora_store_rollback(store, 1, &number, NULL) == SRLORA_CODE_OK && number == 1);
    CHECK(srlora_store_current(store) > was);
    CHECK(srlora_store_rollback(store, was, NULL, NULL) == SRLORA_CODE_OK);
    error = NULL;
    CHECK(srlora_store_forget(store, "cat", &error) == SRLORA_CODE_USAGE);
    srlora_error_free(error);
    CHECK(srlora_store_forget(store, "dark", NULL) == SRLORA_CODE_OK && srlora_store_class_count(store) == 1);
    CHECK(srlora_store_forget(store, "bright", NULL) == SRLORA_CODE_USAGE);
    CHECK(srlora_store_rollback(store, 0, NULL, NULL) == SRLORA_CODE_OK && srlora_store_class_count(store) == 2);
    srlora_store_free(store);
}

static void one_writer_at_a_time(const srlora_photos *photos, const char *folder) {
    srlora_store *store = NULL;
    srlora_trainer *trainer = trainer_of(photos, folder, false, true);
    srlora_happened happened;
    CHECK(srlora_trainer_step(trainer, NULL, NULL, &happened, NULL) == SRLORA_CODE_OK);
    CHECK(happened == SRLORA_HAPPENED_IMPRINTED);
    CHECK(srlora_store_open(folder, &store, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_store_forget(store, "dark", NULL) == SRLORA_CODE_BUSY);
    srlora_trainer_free(trainer);
    CHECK(srlora_store_forget(store, "dark", NULL) == SRLORA_CODE_OK);
    srlora_store_free(store);
}

static void learned_from_a_folder(const char *photos, const char *store) {
    srlora_lesson *lesson = NULL;
    srlora_trainer *trainer = NULL;
    srlora_report *report = NULL;
    CHECK(srlora_lesson_new_from_folder(photos, &lesson, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_method(lesson, SRLORA_METHOD_IMPRINT) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_val_split(lesson, 0.25) == SRLORA_CODE_OK);
    CHECK(srlora_trainer_new(bundle, lesson, store, &trainer, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_trainer_run(trainer, NULL, NULL, &report, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_report_val_accuracy(report) > 0.3);
    printf("imprinted from a folder: %.3f of what was held back\n", srlora_report_val_accuracy(report));
    srlora_report_free(report);
    srlora_trainer_free(trainer);
    /* It is there now. */
    CHECK(srlora_trainer_new(bundle, lesson, store, &trainer, NULL) == SRLORA_CODE_EXISTS);
    srlora_lesson_free(lesson);
}

/* What the process does on a signal, for those that libraries like to take. */
static void look_at_signals(struct sigaction *found) {
    static const int signals[SIGNALS] = {SIGINT, SIGTERM, SIGPIPE, SIGSEGV, SIGBUS, SIGABRT};
    for (int at = 0; at < SIGNALS; at++) CHECK(sigaction(signals[at], NULL, &found[at]) == 0);
}

int main(int count, char **arguments) {
    if (count != 4) return EXIT_FAILURE;
    struct sigaction before[SIGNALS], after[SIGNALS];
    look_at_signals(before);
    srlora_bundle *opened = NULL;
    CHECK(srlora_bundle_open(arguments[1], &opened, NULL) == SRLORA_CODE_OK);
    bundle = opened;
    char stores[4][4096];
    for (int at = 0; at < 4; at++) snprintf(stores[at], sizeof stores[at], "%.4000s/store%d", arguments[3], at);
    srlora_photos *photos = photos_of("bright");
    whole(photos, stores[0]);
    stopped_by_the_observer_and_resumed(photos, stores[1]);
    stopped_by_another_thread(photos, stores[2]);
    classified(stores[0]);
    taken_back_and_forgotten(stores[1]);
    one_writer_at_a_time(photos, stores[1]);
    learned_from_a_folder(arguments[2], stores[3]);
    srlora_photos_free(photos);
    srlora_bundle_free(opened);
    look_at_signals(after);
    for (int at = 0; at < SIGNALS; at++) CHECK(before[at].sa_handler == after[at].sa_handler);
    return verdict();
}
