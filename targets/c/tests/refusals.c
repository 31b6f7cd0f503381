/* Every function with NULL, and with what cannot be meant.  refusals BUNDLE PHOTO */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <srlora.h>

#include "test.h"

/* The code must be `code`, the sentence must hold `words`, and the error is freed. */
static void refused(srlora_code code, srlora_code found, srlora_error *error, const char *words) {
    CHECK(found == code);
    CHECK(error != NULL);
    CHECK(srlora_error_code(error) == code);
    const char *said = srlora_error_sentence(error);
    if (said == NULL || strstr(said, words) == NULL) {
        fprintf(stderr, "not said: %s, but: %s\n", words, said == NULL ? "nothing" : said);
    }
    CHECK(said != NULL && strstr(said, words) != NULL);
    CHECK(srlora_error_subject(error) != NULL && srlora_error_message(error) != NULL);
    srlora_error_free(error);
}

#define REFUSED(code, words, call)              \
    do {                                        \
        srlora_error *error = NULL;             \
        srlora_code found = call;               \
        refused(code, found, error, words);     \
    } while (0)
#define NULL_REFUSED(name, call) REFUSED(SRLORA_CODE_USAGE, "argument `" name "`: is NULL", call)

static void handles_may_be_null(void) {
    srlora_error_free(NULL);
    srlora_bundle_free(NULL);
    srlora_store_free(NULL);
    srlora_classifier_free(NULL);
    srlora_prediction_free(NULL);
    srlora_photos_free(NULL);
    srlora_lesson_free(NULL);
    srlora_trainer_free(NULL);
    srlora_trainer_stop(NULL);
    srlora_report_free(NULL);
    CHECK(srlora_error_code(NULL) == SRLORA_CODE_OK);
    CHECK(srlora_error_sentence(NULL) == NULL && srlora_error_subject(NULL) == NULL);
    CHECK(srlora_error_message(NULL) == NULL);
    CHECK(srlora_bundle_label_count(NULL) == 0 && srlora_bundle_label(NULL, 0) == NULL);
    CHECK(srlora_bundle_feature_count(NULL) == 0 && srlora_bundle_sha256(NULL) == NULL);
    CHECK(srlora_bundle_input_width(NULL) == 0 && srlora_bundle_input_height(NULL) == 0);
    CHECK(srlora_store_current(NULL) == 0 && srlora_store_warning(NULL) == NULL);
    CHECK(srlora_store_generation_count(NULL) == 0 && srlora_store_generation(NULL, 0) == 0);
    CHECK(srlora_store_aside_count(NULL) == 0 && srlora_store_aside(NULL, 0) == 0);
    CHECK(srlora_store_class_count(NULL) == 0 && srlora_store_class(NULL, 0) == NULL);
    CHECK(srlora_classifier_class_count(NULL) == 0 && srlora_classifier_class(NULL, 0) == NULL);
    CHECK(!srlora_classifier_tells_unknown(NULL));
    CHECK(srlora_prediction_count(NULL) == 0 && srlora_prediction_label(NULL, 0) == NULL);
    CHECK(srlora_prediction_probability(NULL, 0) == 0 && isnan(srlora_prediction_confidence(NULL)));
    CHECK(srlora_prediction_unknown(NULL) == SRLORA_UNKNOWN_UNTOLD && srlora_prediction_milliseconds(NULL) == 0);
    CHECK(srlora_photos_count(NULL) == 0);
    CHECK(srlora_trainer_steps(NULL) == 0 && srlora_trainer_seconds(NULL) == 0 && srlora_trainer_peak_bytes(NULL) == 0);
    CHECK(srlora_report_steps(NULL) == 0 && srlora_report_generation(NULL) == 0 && srlora_report_aside(NULL) == 0);
    CHECK(srlora_report_train_images(NULL) == 0 && isnan(srlora_report_train_loss(NULL)));
    CHECK(isnan(srlora_report_val_accuracy(NULL)) && srlora_report_json(NULL) == NULL);
}

static void setters_refuse_null(void) {
    const srlora_code usage = SRLORA_CODE_USAGE;
    CHECK(srlora_lesson_set_method(NULL, 0) == usage && srlora_lesson_set_epochs(NULL, 1) == usage);
    CHECK(srlora_lesson_set_steps(NULL, 1) == usage && srlora_lesson_set_batch(NULL, 1) == usage);
    CHECK(srlora_lesson_set_lr(NULL, 1) == usage && srlora_lesson_set_head_lr(NULL, 1) == usage);
    CHECK(srlora_lesson_set_seed(NULL, 1) == usage && srlora_lesson_set_threads(NULL, 1) == usage);
    CHECK(srlora_lesson_set_augment(NULL, true) == usage && srlora_lesson_set_replay(NULL, 1) == usage);
    CHECK(srlora_lesson_set_ram_limit(NULL, 1) == usage && srlora_lesson_set_cache(NULL, true) == usage);
    CHECK(srlora_lesson_set_val_split(NULL, 0.1) == usage && srlora_lesson_set_further(NULL, true) == usage);
    CHECK(srlora_lesson_set_resume(NULL, true) == usage && srlora_lesson_set_checkpoint(NULL, 1) == usage);
    CHECK(srlora_lesson_set_val_folder(NULL, "x") == usage && srlora_lesson_set_val_photos(NULL, NULL) == usage);
}

static void what_opens_refuses_null(const char *file, const char *photo) {
    srlora_bundle *bundle = NULL;
    srlora_store *store = NULL;
    srlora_lesson *lesson = NULL;
    NULL_REFUSED("file", srlora_bundle_open(NULL, &bundle, &error));
    NULL_REFUSED("bundle", srlora_bundle_open(file, NULL, &error));
    NULL_REFUSED("file", srlora_bundle_open_trusted(NULL, file, 0, &bundle, &error));
    NULL_REFUSED("key", srlora_bundle_open_trusted(file, NULL, 0, &bundle, &error));
    NULL_REFUSED("bundle", srlora_bundle_open_trusted(file, file, 0, NULL, &error));
    NULL_REFUSED("folder", srlora_store_open(NULL, &store, &error));
    NULL_REFUSED("store", srlora_store_open(file, NULL, &error));
    NULL_REFUSED("folder", srlora_lesson_new_from_folder(NULL, &lesson, &error));
    NULL_REFUSED("lesson", srlora_lesson_new_from_folder(file, NULL, &error));
    NULL_REFUSED("photos", srlora_lesson_new_from_photos(NULL, &lesson, &error));
    /* Whoever does not ask for an error gets the code. */
    CHECK(srlora_bundle_open(NULL, &bundle, NULL) == SRLORA_CODE_USAGE);
    CHECK(srlora_bundle_open("/nowhere", &bundle, NULL) == SRLORA_CODE_IO);
    CHECK(bundle == NULL && store == NULL && lesson == NULL);
    REFUSED(SRLORA_CODE_IO, "/nowhere", srlora_bundle_open("/nowhere", &bundle, &error));
    REFUSED(SRLORA_CODE_USAGE, "is no key in PEM", srlora_bundle_open_trusted(file, photo, 0, &bundle, &error));
    REFUSED(SRLORA_CODE_BUNDLE, photo, srlora_bundle_open(photo, &bundle, &error));
    REFUSED(SRLORA_CODE_IO, "/nowhere", srlora_store_open("/nowhere", &store, &error));
    CHECK(bundle == NULL && store == NULL);
}

static void what_classifies_refuses_null(srlora_bundle *bundle, const char *photo) {
    srlora_classifier *classifier = NULL;
    srlora_prediction *prediction = NULL;
    unsigned char pixel[3] = {1, 2, 3};
    float values[64];
    srlora_frame frame = {.struct_size = sizeof frame, .format = SRLORA_FORMAT_RGB, .width = 1, .height = 1,
                          .data = pixel, .size = sizeof pixel};
    NULL_REFUSED("bundle", srlora_classifier_new(NULL, NULL, &classifier, &error));
    NULL_REFUSED("classifier", srlora_classifier_new(bundle, NULL, NULL, &error));
    CHECK(srlora_classifier_new(bundle, NULL, &classifier, NULL) == SRLORA_CODE_OK);
    NULL_REFUSED("classifier", srlora_classifier_predict(NULL, &frame, 1, &prediction, &error));
    NULL_REFUSED("frame", srlora_classifier_predict(classifier, NULL, 1, &prediction, &error));
    NULL_REFUSED("prediction", srlora_classifier_predict(classifier, &frame, 1, NULL, &error));
    NULL_REFUSED("classifier", srlora_classifier_predict_file(NULL, photo, 1, &prediction, &error));
    NULL_REFUSED("file", srlora_classifier_predict_file(classifier, NULL, 1, &prediction, &error));
    NULL_REFUSED("prediction", srlora_classifier_predict_file(classifier, photo, 1, NULL, &error));
    NULL_REFUSED("classifier", srlora_classifier_probabilities(NULL, &frame, 64, values, &error));
    NULL_REFUSED("frame", srlora_classifier_probabilities(classifier, NULL, 64, values, &error));
    NULL_REFUSED("values", srlora_classifier_probabilities(classifier, &frame, 64, NULL, &error));
    NULL_REFUSED("classifier", srlora_classifier_embed(NULL, &frame, 64, values, &error));
    NULL_REFUSED("frame", srlora_classifier_embed(classifier, NULL, 64, values, &error));
    NULL_REFUSED("values", srlora_classifier_embed(classifier, &frame, 64, NULL, &error));
    REFUSED(SRLORA_CODE_USAGE, "no features to give", srlora_classifier_embed(classifier, &frame, 64, values, &error));
    REFUSED(SRLORA_CODE_IMAGE, "/nowhere", srlora_classifier_predict_file(classifier, "/nowhere", 1, &prediction, &error));
    values[0] = 7;
    REFUSED(SRLORA_CODE_USAGE, "argument `capacity`: is 1, and there are",
            srlora_classifier_probabilities(classifier, &frame, 1, values, &error));
    CHECK(values[0] == 7 && prediction == NULL);
    CHECK(srlora_classifier_class(classifier, 1000) == NULL);
    srlora_classifier_free(classifier);
}

static void what_learns_refuses_null(srlora_bundle *bundle, const char *photo) {
    srlora_photos *photos = srlora_photos_new();
    srlora_lesson *lesson = NULL;
    srlora_trainer *trainer = NULL;
    srlora_happened happened;
    srlora_report *report = NULL;
    srlora_frame frame = {.struct_size = sizeof frame};
    NULL_REFUSED("photos", srlora_photos_add(NULL, "a", &frame, &error));
    NULL_REFUSED("class_name", srlora_photos_add(photos, NULL, &frame, &error));
    NULL_REFUSED("frame", srlora_photos_add(photos, "a", NULL, &error));
    NULL_REFUSED("frame->data", srlora_photos_add(photos, "a", &frame, &error));
    NULL_REFUSED("photos", srlora_photos_add_file(NULL, "a", photo, &error));
    NULL_REFUSED("class_name", srlora_photos_add_file(photos, NULL, photo, &error));
    NULL_REFUSED("file", srlora_photos_add_file(photos, "a", NULL, &error));
    REFUSED(SRLORA_CODE_DATA, "has no name", srlora_photos_add_file(photos, "", photo, &error));
    REFUSED(SRLORA_CODE_USAGE, "is not UTF-8", srlora_photos_add_file(photos, "\xff", photo, &error));
    CHECK(srlora_photos_count(photos) == 0);
    CHECK(srlora_photos_add_file(photos, "a", photo, NULL) == SRLORA_CODE_OK && srlora_photos_count(photos) == 1);
    NULL_REFUSED("lesson", srlora_lesson_new_from_photos(photos, NULL, &error));
    CHECK(srlora_lesson_new_from_photos(photos, &lesson, NULL) == SRLORA_CODE_OK);
    CHECK(srlora_lesson_set_method(lesson, 99) == SRLORA_CODE_USAGE);
    CHECK(srlora_lesson_set_checkpoint(lesson, -1) == SRLORA_CODE_USAGE);
    CHECK(srlora_lesson_set_checkpoint(lesson, NAN) == SRLORA_CODE_USAGE);
    CHECK(srlora_lesson_set_val_folder(lesson, NULL) == SRLORA_CODE_USAGE);
    CHECK(srlora_lesson_set_val_photos(lesson, NULL) == SRLORA_CODE_USAGE);
    NULL_REFUSED("bundle", srlora_trainer_new(NULL, lesson, "s", &trainer, &error));
    NULL_REFUSED("lesson", srlora_trainer_new(bundle, NULL, "s", &trainer, &error));
    NULL_REFUSED("store", srlora_trainer_new(bundle, lesson, NULL, &trainer, &error));
    NULL_REFUSED("trainer", srlora_trainer_new(bundle, lesson, "s", NULL, &error));
    REFUSED(SRLORA_CODE_DATA, "only one class", srlora_trainer_new(bundle, lesson, "s", &trainer, &error));
    CHECK(srlora_lesson_set_batch(lesson, 0) == SRLORA_CODE_OK);
    REFUSED(SRLORA_CODE_USAGE, "`batch`: is 0", srlora_trainer_new(bundle, lesson, "s", &trainer, &error));
    NULL_REFUSED("trainer", srlora_trainer_run(NULL, NULL, NULL, &report, &error));
    NULL_REFUSED("trainer", srlora_trainer_step(NULL, NULL, NULL, &happened, &error));
    NULL_REFUSED("store", srlora_store_rollback(NULL, 0, NULL, &error));
    NULL_REFUSED("store", srlora_store_forget(NULL, "a", &error));
    CHECK(trainer == NULL && report == NULL);
    srlora_lesson_free(lesson);
    srlora_photos_free(photos);
}

int main(int count, char **arguments) {
    if (count != 3) return EXIT_FAILURE;
    srlora_bundle *bundle = NULL;
    CHECK(strcmp(srlora_version(), SRLORA_VERSION) == 0);
    CHECK(srlora_bundle_open(arguments[1], &bundle, NULL) == SRLORA_CODE_OK);
    handles_may_be_null();
    setters_refuse_null();
    what_opens_refuses_null(arguments[1], arguments[2]);
    what_classifies_refuses_null(bundle, arguments[2]);
    what_learns_refuses_null(bundle, arguments[2]);
    srlora_bundle_free(bundle);
    return verdict();
}
