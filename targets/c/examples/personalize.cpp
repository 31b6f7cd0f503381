// Learns a folder of photos, classifies another photo with what was learned, and takes the lesson back.
//
//     personalize BUNDLE FOLDER PHOTO STORE
#include <cstdio>
#include <cstdlib>
#include <string>

#include <srlora.hpp>

namespace {

int failed(const srlora::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.sentence().c_str());
    return EXIT_FAILURE;
}

int classify(const srlora::Bundle& bundle, const std::string& photo, const std::string& folder) {
    auto store = srlora::Store::open(folder);
    if (!store) return failed(store.error());
    const auto classifier = srlora::Classifier::make(bundle, *store);
    if (!classifier) return failed(classifier.error());
    const auto prediction = classifier->predict_file(photo, 3);
    if (!prediction) return failed(prediction.error());
    for (const auto& guess : prediction->top)
        std::printf("%5.1f %%  %s\n", 100.0 * static_cast<double>(guess.probability), guess.label.c_str());

    const auto back = store->rollback(1);
    if (!back) return failed(back.error());
    std::printf("generation %llu holds what was imprinted at first\n", static_cast<unsigned long long>(store->current()));
    return EXIT_SUCCESS;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) {
        std::fprintf(stderr, "usage: personalize BUNDLE FOLDER PHOTO STORE\n");
        return EXIT_FAILURE;
    }
    const auto bundle = srlora::Bundle::open(arguments[1]);
    if (!bundle) return failed(bundle.error());
    auto lesson = srlora::Lesson::from_folder(arguments[2]);
    if (!lesson) return failed(lesson.error());
    lesson->epochs(4).threads(2);
    const auto trainer = srlora::Trainer::make(*bundle, *lesson, arguments[4]);
    if (!trainer) return failed(trainer.error());
    const auto report = trainer->run([](const srlora::Event& event) {
        if (event.kind == SRLORA_EVENT_KIND_STEP)
            std::printf("step %llu: loss %.3f\n", static_cast<unsigned long long>(event.step), static_cast<double>(event.loss));
        return true;
    });
    if (!report) return failed(report.error());
    return classify(*bundle, arguments[3], arguments[4]);
}
