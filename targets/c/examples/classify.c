/* Classifies a photo, and frames as they come from a camera.
 *
 *     classify BUNDLE PHOTO [STORE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <srlora.h>

/* Says what went wrong, and frees it. */
static int failed(srlora_error *error) {
    fprintf(stderr, "error: %s\n", srlora_error_sentence(error));
    srlora_error_free(error);
    return EXIT_FAILURE;
}

static void print(const char *what, srlora_prediction *prediction) {
    printf("%s:", what);
    for (size_t at = 0; at < srlora_prediction_count(prediction); at++) {
        const double percent = 100.0 * srlora_prediction_probability(prediction, at);
        printf("  %s %.1f %%", srlora_prediction_label(prediction, at), percent);
    }
    printf(srlora_prediction_unknown(prediction) == SRLORA_UNKNOWN_YES ? "  (like none of them)\n" : "\n");
    srlora_prediction_free(prediction);
}

/* Four frames, ever brighter: blue, green, red and a byte that nobody reads, in rows that are padded to 256 bytes. */
static int watch(const srlora_classifier *classifier) {
    enum { WIDTH = 50, HEIGHT = 40, STRIDE = 256 };
    static unsigned char buffer[STRIDE * HEIGHT];
    for (int level = 0; level < 256; level += 80) {
        memset(buffer, level, sizeof buffer);
        const srlora_frame frame = {
            .struct_size = sizeof frame,
            .format = SRLORA_FORMAT_BGRX,
            .width = WIDTH,
            .height = HEIGHT,
            .data = buffer,
            .size = sizeof buffer,
            .stride = STRIDE,
        };
        srlora_prediction *prediction = NULL;
        srlora_error *error = NULL;
        if (srlora_classifier_predict(classifier, &frame, 1, &prediction, &error) != SRLORA_CODE_OK) {
            return failed(error);
        }
        print("a frame", prediction);
    }
    return EXIT_SUCCESS;
}

int main(int count, char **arguments) {
    if (count != 3 && count != 4) {
        fprintf(stderr, "usage: classify BUNDLE PHOTO [STORE]\n");
        return EXIT_FAILURE;
    }
    srlora_bundle *bundle = NULL;
    srlora_store *store = NULL;
    srlora_classifier *classifier = NULL;
    srlora_prediction *prediction = NULL;
    srlora_error *error = NULL;
    int result = EXIT_FAILURE;
    if (srlora_bundle_open(arguments[1], &bundle, &error) != SRLORA_CODE_OK ||
        (count == 4 && srlora_store_open(arguments[3], &store, &error) != SRLORA_CODE_OK) ||
        /* Without a store, the model's own classifier answers. */
        srlora_classifier_new(bundle, store, &classifier, &error) != SRLORA_CODE_OK ||
        srlora_classifier_predict_file(classifier, arguments[2], 3, &prediction, &error) != SRLORA_CODE_OK) {
        failed(error);
    } else {
        print(arguments[2], prediction);
        result = watch(classifier);
    }
    srlora_classifier_free(classifier);
    srlora_store_free(store);
    srlora_bundle_free(bundle);
    return result;
}
