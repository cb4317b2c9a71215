// For browsers that run no modules, and pages that were opened as a file: one sentence instead of nothing.
(function () {
  var chinese = /^zh/.test(navigator.language || "");
  var file = location.protocol === "file:";
  var old = !("noModule" in document.createElement("script"));
  if (!file && !old) return;
  var place = document.getElementById("trouble");
  place.hidden = false;
  document.documentElement.setAttribute("data-state", "trouble");
  if (file) {
    place.textContent = chinese
      ? "此页面需要由网页服务器打开：在此文件夹中运行 python -m http.server，然后打开 http://localhost:8000"
      : "A page that is opened as a file may load nothing: type `python -m http.server` in this folder and open http://localhost:8000";
  } else {
    place.textContent = chinese
      ? "浏览器版本过旧：需要 Chrome 或 Edge 91、Firefox 113、Safari 16.4 或更新版本。"
      : "This browser is too old: it takes Chrome or Edge 91, Firefox 113, Safari 16.4 or newer.";
  }
  document.getElementById("answer").textContent = "";
})();
