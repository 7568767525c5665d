/* The study's page of Orthanc Explorer: a button "Read with AI", and beneath it what became of the study. */
(function () {
  'use strict';
  var POLL_MS = 2000;
  var words = {
    announced: 'the node is fetching it',
    receiving: 'the node is receiving it',
    no_route: 'no model is for this study',
    reading: 'is being read',
    reported: 'was read',
    out_of_scope: 'was not read',
    failed: 'could not be read'
  };

  function sentence(state) {
    if (state.untold) {
      return 'The node has not heard of it yet. ' + state.untold.error;
    }
    if (!state.node) {
      return state.error;
    }
    var reason = state.node.reason ? ': ' + state.node.reason : '';
    return 'Study ' + words[state.node.state] + reason + (state.node.delivered ? '; the report is in the study.' : '.');
  }

  $('#study').live('pagebeforeshow', function () {
    var study = $.mobile.pageData.uuid;
    var address = '../ainode/studies/' + study;
    $('#ainode').remove();
    var said = $('<p>');
    var button = $('<a data-role="button" data-icon="search" data-theme="e" href="#">').text('Read with AI');
    $('<div id="ainode">').append(button, said).insertAfter('#study-info');
    button.button();

    function show(state) {
      said.text(sentence(state));
    }
    function poll() {
      if ($.mobile.activePage.attr('id') === 'study' && $.mobile.pageData.uuid === study && said.closest('body').length) {
        $.getJSON(address, show).always(function () { window.setTimeout(poll, POLL_MS); });
      }
    }
    button.click(function (event) {
      event.preventDefault();
      $.ajax({ url: address, type: 'POST', data: '{}', dataType: 'json', success: show });
    });
    $.getJSON(address, show);
    window.setTimeout(poll, POLL_MS);
  });
}());
