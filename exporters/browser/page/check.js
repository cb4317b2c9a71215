// For browsers that run no modules, and pages that were opened as a file: one sentence instead of nothing.
(function () {
  var words = JSON.parse(document.getElementById("words").textContent);
  var why = location.protocol === "file:" ? "file" : "noModule" in document.createElement("script") ? "" : "old";
  if (!why) return;
  var place = document.getElementById("trouble");
  place.hidden = false;
  place.textContent = words[/^zh/.test(navigator.language || "") ? "zh" : "en"][why];
  document.documentElement.setAttribute("data-state", "trouble");
  document.getElementById("answer").textContent = "";
})();
