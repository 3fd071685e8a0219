(function () {
  "use strict";
  var tip = document.getElementById("tip");
  function show(event) {
    var at = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!at) { tip.hidden = true; return; }
    tip.textContent = at.getAttribute("data-tip");
    tip.hidden = false;
    var room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(event.clientX + 14, room)) + "px";
    var above = event.clientY - tip.offsetHeight - 12;
    tip.style.top = (Math.sign(8 - above) === 1 ? event.clientY + 18 : above) + "px";
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", function () { tip.hidden = true; }, { passive: true });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
})();
